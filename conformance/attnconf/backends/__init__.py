"""Backends: what each is and declares, and the registry that finds them. One file or folder a backend."""
