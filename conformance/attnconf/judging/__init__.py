"""Judging: one case before one backend, posed, tried, checked and explained."""
