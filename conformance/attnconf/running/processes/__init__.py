"""Processes: backends and workers in processes of their own, and the GPUs they share."""
