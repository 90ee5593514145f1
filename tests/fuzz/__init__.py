"""Random cases: each ends in a right answer, a documented warning, or an error that says why."""
