"""The papers' table 1, measured again: runs, their results, the table and the figures."""
