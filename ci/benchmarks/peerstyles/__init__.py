"""How other projects test attention kernels, re-created: their grids, inputs, page tables and comparisons.

Parameters are facts of those projects, each with its source; the code is ours. ``tolerances`` holds how a peer
compares, one module a peer what it asks, ``pose`` makes tensors of it, ``race`` asks mutants, ``page`` and ``picture``
show what came of it.
"""
