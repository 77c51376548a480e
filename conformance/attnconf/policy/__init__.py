"""Policy: which backend a model gets on which platform, and what must be proven before."""
