"""Bench: backends timed against each other on the same cases, kernels alone, and what came of it as a receipt."""
