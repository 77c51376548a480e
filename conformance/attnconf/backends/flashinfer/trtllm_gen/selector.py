"""Selector: which kernel a launch ends in, as ``TllmGenFmhaKernel::run`` of fmhaKernels.cuh decides.

A model of FlashInfer's own code for paged grouped-query attention, written from its source; ``compiled`` holds it
against that code. Multi-latent, sparse and SageAttention are not asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from attnconf.backends.flashinfer.trtllm_gen.launch import NoKernelError, Selection, lay_out
from attnconf.backends.flashinfer.trtllm_gen.tiles import fastest_tile, type_of
from attnconf.backends.flashinfer.trtllm_gen.traits import KernelType, Mask, Scheduler, Split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnconf.backends.flashinfer.trtllm_gen.question import Question
    from attnconf.backends.flashinfer.trtllm_gen.row import Row
    from attnconf.backends.flashinfer.trtllm_gen.rules import Rules
    from attnconf.backends.flashinfer.trtllm_gen.traits import Key

_PASSES = 4
_TILES = (8, 16, 32, 64)
_LARGEST_TILE = 128
_MIXED_TILE = 16
_DYNAMIC_FROM = 128
_WHOLE_HEAD = 256
"""The widest head that a kernel which keeps A and B, or a prefill kernel, computes in one CTA."""

_LEAST_HEAD, _MOST_HEAD = 32, 1024


@dataclass(frozen=True)
class Selector:
    """The selector of one release over the kernels that are loaded for one GPU and the dtypes of a question."""

    rules: Rules
    kernels: Mapping[Key, Row]

    def select(self, question: Question) -> tuple[Row, ...]:
        """Return the kernel that a launch ends in, or both where the GPU's occupancy decides between two.

        Raises ``NoKernelError`` with the key that FlashInfer looks up in vain.
        """
        if not _LEAST_HEAD <= question.head_dim <= _MOST_HEAD:
            raise NoKernelError(f"Expect (32 <= headDim <= 1024), got headDimQk={question.head_dim}")
        first = _begin(question)
        self._choose(question, first)
        self._find(question, first)  # asked before anything is loaded, in a selection of its own
        selection = _begin(question)
        for _ in range(_PASSES):
            self._choose(question, selection)
            row = self._find(question, selection)
            lay_out(question, row, selection)
            if not selection.again:
                break
        else:
            raise NoKernelError(f"kernel selection did not converge in {_PASSES} passes")
        if selection.split is not Split.CLUSTER:
            return (row,)
        return (row, self._without_cluster(question, selection))

    def _without_cluster(self, question: Question, selection: Selection) -> Row:
        """Return the kernel for a GPU on which not all clusters fit at once."""
        selection.never_clusters, selection.split = True, Split.GLOBAL
        self._choose(question, selection)
        row = self._find(question, selection)
        lay_out(question, row, selection)
        if selection.again:
            raise NoKernelError("kernel selection did not converge after CgaSmemReduction")
        return row

    def _find(self, question: Question, selection: Selection) -> Row:
        key = selection.key(question)
        row = self.kernels.get(key)
        if row is None:
            raise NoKernelError(key.text)
        return row

    def _choose(self, question: Question, selection: Selection) -> None:
        self._choose_page(question, selection)
        if not question.context:
            self._choose_tile(question, selection)
        if question.head_dim > _WHOLE_HEAD and selection.kernel_type is not KernelType.SWAPS:
            selection.head_dim_per_cta = _WHOLE_HEAD
        if question.max_kv_len > question.window and (selection.mask is Mask.CAUSAL or not question.context):
            selection.mask = Mask.WINDOW

    def _choose_page(self, question: Question, selection: Selection) -> None:
        pages = self.rules.dynamic_pages
        grouped = pages == "always" or (pages == "grouped" and question.group_size > 1)
        selection.dynamic_page = grouped and question.page_size >= _DYNAMIC_FROM
        if question.page_size & (question.page_size - 1):
            raise NoKernelError(f"numTokensPerPage must be a power of 2, got {question.page_size}")
        selection.page_size = _DYNAMIC_FROM if selection.dynamic_page else question.page_size

    def _choose_tile(self, question: Question, selection: Selection) -> None:
        if question.q_dtype != question.kv_dtype:
            selection.tile_q = _TILES[0] if question.group_size <= _TILES[0] else _MIXED_TILE
            selection.kernel_type = KernelType.SWAPS
            return
        rows = question.group_size * question.max_q_len
        selection.tile_q = next((tile for tile in _TILES if rows <= tile), _LARGEST_TILE)
        selection.kernel_type = type_of(selection.tile_q)
        sync = partial(self._sync, question)
        sync(selection)
        if question.max_q_len > 1:
            selection.tile_q = fastest_tile(question, selection, partial(self._find, question), sync)
            selection.kernel_type = type_of(selection.tile_q)
            sync(selection)

    def _sync(self, question: Question, selection: Selection) -> None:
        """Ask for wide heads as they are listed (``syncGqaGenerationTraitsForKernelHash``)."""
        if not self.rules.syncs_wide_heads:
            return
        split = selection.split is not Split.NONE
        if selection.kernel_type is KernelType.KEEPS and question.head_dim > _WHOLE_HEAD:
            selection.head_dim_per_cta = _WHOLE_HEAD
            if split:
                selection.split = Split.SEPARATE
            return
        selection.head_dim_per_cta = question.head_dim
        if selection.split is Split.SEPARATE:
            selection.split = Split.GLOBAL


def _begin(question: Question) -> Selection:
    """Return what the launcher passes: prefill is persistent and unsplit, decode is static and split."""
    return Selection(
        mask=question.mask,
        kernel_type=KernelType.CONTEXT if question.context else KernelType.SWAPS,
        scheduler=Scheduler.PERSISTENT if question.context else Scheduler.STATIC,
        split=Split.NONE if question.context else Split.GLOBAL,
        head_dim_per_cta=question.head_dim,
    )
