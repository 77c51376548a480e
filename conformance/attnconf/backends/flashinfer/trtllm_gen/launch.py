"""Launch: the state of one selection, and the grid that follows from a kernel (``computeCtaAndClusterConfig``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnconf.backends.flashinfer.trtllm_gen.traits import KernelType, Key, Mask, Scheduler, Split

if TYPE_CHECKING:
    from attnconf.backends.flashinfer.trtllm_gen.question import Question
    from attnconf.backends.flashinfer.trtllm_gen.row import Row

_MOST_CLUSTER = 16
"""CTAs of the largest cluster: more splits of the keys cannot be added up in one."""

_CLUSTER_BELOW = 512
"""From this head_dim on no partial results are added up in a cluster."""


class NoKernelError(Exception):
    """A selection ends without a kernel; the message says at what, in FlashInfer's own terms."""


@dataclass
class Selection:
    """``TllmGenSelectKernelParams``: what the passes of one selection hand on to each other."""

    mask: Mask
    kernel_type: KernelType
    scheduler: Scheduler
    split: Split
    head_dim_per_cta: int
    tile_q: int = 128
    tile_kv: int = 128
    page_size: int = 0
    dynamic_page: bool = False
    never_clusters: bool = False
    again: bool = False

    def key(self, question: Question) -> Key:
        """Return what is looked up."""
        return Key(
            self.mask,
            self.kernel_type,
            self.scheduler,
            self.split,
            self.head_dim_per_cta,
            question.head_dim,
            self.tile_q,
            self.tile_kv,
            self.page_size,
            self.dynamic_page,
        )


@dataclass(frozen=True)
class Grid:
    """How many CTAs a launch has, and over how many the keys of a request are split."""

    ctas: int
    splits: int


def lay_out(question: Question, row: Row, selection: Selection) -> Grid:
    """Return the grid of a launch of ``row``; ``selection.again`` says that it asks for another kernel instead.

    Raises ``NoKernelError`` where FlashInfer refuses the number of heads or their width.
    """
    selection.again = False
    rows_of_ctas = _ctas_of_rows(question, row)
    heads_a_cta = min(question.group_size, row.step_q) if row.groups_heads else 1
    if question.num_qo_heads % heads_a_cta:
        raise NoKernelError("The numHeadsQ/numHeadsKv is not supported.")
    if question.head_dim % selection.head_dim_per_cta:
        raise NoKernelError("The headDimPerCtaV is not supported.")
    heads = question.num_qo_heads // heads_a_cta * (question.head_dim // selection.head_dim_per_cta)
    ctas = rows_of_ctas * heads * question.num_requests
    if selection.split is Split.NONE:
        return Grid(ctas, 1)
    most = -(-_reach(question, row, selection) // (2 * row.step_kv))
    splits = min(most, max(1, question.multiprocessors // ctas))
    if splits <= 1:
        selection.split, selection.scheduler, selection.again = Split.NONE, Scheduler.PERSISTENT, True
    elif (
        splits <= _MOST_CLUSTER
        and selection.kernel_type is KernelType.SWAPS
        and selection.split is Split.GLOBAL
        and not selection.never_clusters
        and question.head_dim < _CLUSTER_BELOW
    ):
        selection.split, selection.again = Split.CLUSTER, True
    return Grid(ctas * splits, splits)


def _ctas_of_rows(question: Question, row: Row) -> int:
    if question.max_q_len == 1 or question.context:
        return -(-question.max_q_len // row.step_q)
    if not row.groups_tokens_heads:
        return question.max_q_len
    return -(-question.max_q_len // max(1, row.step_q // question.group_size))


def _reach(question: Question, row: Row, selection: Selection) -> int:
    """Return over how many keys a launch goes at most: behind a window, those of its first tile, too."""
    if selection.mask is Mask.WINDOW and question.max_kv_len > question.window:
        return min(question.max_kv_len, question.window + row.step_kv - 1)
    return question.max_kv_len
