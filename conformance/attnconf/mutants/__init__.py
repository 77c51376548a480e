"""Backends that are known to be wrong: what the suite is worth is what it catches of them.

A ``Mutant`` is a right implementation with the smallest change that makes a historical bug of it.
``registry.MUTANTS`` has them all; ``mutant.make(platform)`` gives the backend to any harness, and ``mutant.proof`` a
case on which it is wrong.
"""
