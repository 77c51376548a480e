"""All mutants, by the place of the fault. A new mutant is added to the tuple of its file, and nowhere else."""

from __future__ import annotations

from attnconf.errors import InvalidInputError
from attnconf.mutants import (
    batches,
    bidirectional,
    blocks,
    calls,
    chunks,
    drafts,
    dtypes,
    formats,
    graphs,
    memory,
    merge,
    parts,
    pools,
    precision,
    query_side,
    scales,
    scores,
    sequences,
    sizes,
    spans,
    tables,
    trees,
    widths,
    windows,
)
from attnconf.mutants.mutant import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *windows.MUTANTS,
    *spans.MUTANTS,
    *bidirectional.MUTANTS,
    *chunks.MUTANTS,
    *drafts.MUTANTS,
    *trees.MUTANTS,
    *tables.MUTANTS,
    *pools.MUTANTS,
    *scores.MUTANTS,
    *scales.MUTANTS,
    *precision.MUTANTS,
    *dtypes.MUTANTS,
    *formats.MUTANTS,
    *blocks.MUTANTS,
    *widths.MUTANTS,
    *batches.MUTANTS,
    *memory.MUTANTS,
    *merge.MUTANTS,
    *parts.MUTANTS,
    *calls.MUTANTS,
    *graphs.MUTANTS,
    *sizes.MUTANTS,
    *query_side.MUTANTS,
    *sequences.MUTANTS,
)

_OPTION = "--only"


def mutant_named(name: str) -> Mutant:
    """Return a mutant by its id. Raises ``InvalidInputError`` with the known ids."""
    for mutant in MUTANTS:
        if mutant.id == name:
            return mutant
    raise InvalidInputError(_OPTION, given=repr(name), allowed=", ".join(mutant.id for mutant in MUTANTS))
