"""Tests of the book: its Sphinx extensions, and the built site in a real browser."""
