"""Backends that lose or block their GPU; importable by name, so that a process of their own can make them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import triton
import triton.language as tl

from attnconf.backends.reference import ReferenceBackend
from conformance.tests.support.wrecking import TRIGGER

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Prepared
    from attnconf.cases.inputs.batch import Batch
    from attnconf.platforms import Platform

FAR = 2**40
"""Elements: terabytes behind any allocation."""

FOREVER = 2**62
"""Clock cycles: decades."""


@triton.jit
def _store_at(pointer, offset) -> None:  # type: ignore[no-untyped-def] # noqa: ANN001 - Triton's own types
    tl.store(pointer + offset, 1.0)


def write_far(tensor: torch.Tensor) -> None:
    """Write one element far behind ``tensor``."""
    _store_at[(1,)](tensor, FAR)


def spin(tensor: torch.Tensor) -> None:
    """Keep the device busy for good; returns at once."""
    del tensor
    torch.cuda._sleep(FOREVER)


class WreckingGPU(ReferenceBackend):
    """Right, but for the way it takes one length."""

    def __init__(self, name: str, wreck: Callable[[torch.Tensor], None]) -> None:
        self.name = name
        self.wreck = wreck

    def prepare(self, batch: Batch) -> Prepared:
        if TRIGGER in batch.kv_lens:
            self.wreck(batch.layers[0].q)
        return super().prepare(batch)


def out_of_bounds(platform: Platform) -> WreckingGPU:
    del platform
    return WreckingGPU("out_of_bounds", write_far)


def endless(platform: Platform) -> WreckingGPU:
    del platform
    return WreckingGPU("endless", spin)
