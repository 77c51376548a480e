"""Outlines of all checks: their clauses, when they run, and what they need beside a trial's own. None is run here."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

from attnconf.cases.case import KVLayout
from attnconf.cases.inputs.pages import reclaims
from attnconf.clauses import Clause
from attnconf.judging.checks.check import Outline
from attnconf.judging.checks.shards import pools_of_shards

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.cases.case import Case
    from attnconf.cases.shape import KernelShape

ANSWER_CLAUSES = (
    Clause.CAUSAL,
    Clause.WINDOW,
    Clause.SCORES,
    Clause.GQA,
    Clause.PAGING,
    Clause.DEAD_SLOTS,
    Clause.HYBRID_POOLS,
    Clause.KV_SHARING,
    Clause.READ_ONLY,
    Clause.LAYOUT,
    Clause.DETERMINISM,
    Clause.QUANTISED,
)

CAPTURED = ("decode", "verify")
"""Modes that engines capture. They do not capture an extend, whose shape changes with every batch."""


def _other_modes(shape: KernelShape) -> Iterator[KernelShape]:
    yield replace(shape, mode="decode", max_q_len=1)
    yield replace(shape, mode="extend")


def _other_layouts(shape: KernelShape) -> Iterator[KernelShape]:
    return (replace(shape, kv_layout=layout) for layout in get_args(KVLayout))


def _layouts(case: Case) -> int:
    """Return one for each kind of layer: each may get another layout."""
    return len({layer.kind for layer in case.layers})


def _batches(case: Case) -> int:
    """Return two batches for each sibling: layers of one kind have the same."""
    return 2 * len({(one.kind, one.window_left > 0, one.logits_soft_cap is None) for one in case.layers})


def _replayed(case: Case) -> int:
    """Return 3: another batch, its pristine copy, and one with room for all."""
    return 3 if case.mode in CAPTURED else 0


OUTPUTS = Outline("outputs_written", (Clause.READ_ONLY, Clause.EMPTY_ROWS), extra=False)
NUMERICS = Outline("numerics", ANSWER_CLAUSES, extra=False)
INPUTS = Outline("inputs_unchanged", (Clause.READ_ONLY,), extra=False)
FALLBACK = Outline("fallback", (Clause.REFUSAL,), extra=False)
EMPTY_ROWS = Outline("empty_rows", (Clause.EMPTY_ROWS,), extra=False)
DEAD_SLOTS = Outline(
    "dead_slots", (Clause.DEAD_SLOTS, Clause.RECLAIMED_PAGES), pools=lambda case: 1 + 2 * case.paging.reclaimed
)
RECLAIMED = Outline(
    "reclaimed", (Clause.RECLAIMED_PAGES,), bites=reclaims, pools=lambda case: int(case.paging.reclaimed)
)
INDEPENDENCE = Outline("independence", (Clause.INDEPENDENCE,))
RELABELLED = Outline("relabelled", (Clause.RELABELLING,), pools=lambda _: 2)  # its pool has twice the pages
LAYOUT = Outline("layout", (Clause.LAYOUT,), shapes=_other_layouts, pools=_layouts)
REPEATED = Outline("repeated", (Clause.DETERMINISM,))
WORKSPACE = Outline("workspace", (Clause.DETERMINISM,), on_top=True)
SIBLINGS = Outline("siblings", (Clause.DETERMINISM,), pools=_batches)
OVERWRITTEN = Outline("overwritten", (Clause.DETERMINISM,), pools=lambda _: 2)
CONSISTENCY = Outline("consistency", (Clause.CONSISTENCY,), shapes=_other_modes, pools=pools_of_shards)
HOST_HINTS = Outline("host_hints", (Clause.HOST_HINTS,))
GRAPHS = Outline("cuda_graph", (Clause.CUDA_GRAPHS,), on_top=True, needs_gpu=True, pools=_replayed)
CORRUPTED = Outline("corrupted", (Clause.REFUSAL,), on_top=True)

OUTLINES: tuple[Outline, ...] = (
    OUTPUTS,
    NUMERICS,
    INPUTS,
    FALLBACK,
    EMPTY_ROWS,
    DEAD_SLOTS,
    RECLAIMED,
    INDEPENDENCE,
    RELABELLED,
    LAYOUT,
    REPEATED,
    WORKSPACE,
    SIBLINGS,
    OVERWRITTEN,
    CONSISTENCY,
    HOST_HINTS,
    GRAPHS,
    CORRUPTED,
)
"""The order of ``catalogue.CHECKS``."""
