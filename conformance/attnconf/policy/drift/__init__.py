"""Drift: what an installed serving engine would choose, asked of its own code and held against a policy."""
