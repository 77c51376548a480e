"""Policy: the backend for each model and platform, and what must be proven for it."""
