"""Drift: the choices of an installed serving engine's own code, compared with a policy."""
