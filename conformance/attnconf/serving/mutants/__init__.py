"""Managers and schedulers that are known to be wrong, each with the clause that catches it."""
