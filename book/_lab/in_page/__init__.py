"""Python in the reader's page: cells of a chapter, and the laboratory."""
