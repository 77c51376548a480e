"""Workers of pytest-xdist: their GPUs, their share of memory, and which tests each takes."""
