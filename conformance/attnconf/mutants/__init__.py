"""Mutants: backends that are known to be wrong, and measure the suite by how many of them it catches.

A ``Mutant`` is a right implementation with the smallest change that gives it a historical bug. ``registry.MUTANTS`` has
all of them. ``mutant.make(platform)`` returns the backend for any harness, and ``mutant.proof`` a case on which it is
wrong.
"""
