"""The adapter: from a batch to launches of the kernels."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from attnconf.backends.protocol import Evidence, Promises, Unsupported
from attnconf.backends.triton.tuning import MAX_BLOCK, padded
from attnconf.errors import BackendUnavailableError
from attnconf.numerics import NumericsProfile
from attnconf.shape import batch_shape

if TYPE_CHECKING:
    from attnconf.backends.protocol import Prepared
    from attnconf.batch import Batch
    from attnconf.platforms import Platform
    from attnconf.shape import KernelShape

MAX_HEAD_DIM = 512
REMEDY = 'pip install "attnconf[triton]"'
FP8_SM = (8, 9)
"""The first compute capability that converts e4m3 in hardware; Triton compiles it for no earlier one."""


def require_triton() -> None:
    """Raise ``BackendUnavailableError`` with the remedy when triton cannot be imported. Imports it not."""
    if importlib.util.find_spec("triton") is None:
        message = f"backend triton needs the package triton, which is not installed here; {REMEDY}"
        raise BackendUnavailableError(message)


class TritonBackend:
    """Paged attention in Triton on ``platform``; promises every optional clause."""

    name = "triton"
    evidence: Evidence = "kernel"
    promises = Promises(lse="natural", cuda_graph=True)

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or why this shape cannot run there."""
        if "triton" not in platform.packages:
            return Unsupported(f"triton is not installed; {REMEDY}")
        if shape.head_dim > MAX_HEAD_DIM:
            return Unsupported(f"head_dim {shape.head_dim} is above {MAX_HEAD_DIM}")
        if padded(shape.group_size) * padded(shape.head_dim) > MAX_BLOCK:
            return Unsupported(
                f"{shape.group_size} query heads per KV head at head_dim {shape.head_dim} do not fit one block of rows"
            )
        if shape.kv_dtype == "float8_e4m3fn" and platform.sm is not None and platform.sm < FP8_SM:
            return Unsupported(f"Triton compiles float8_e4m3fn from SM 8.9 on, and this is SM {platform.sm_text}")
        return None

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """P is rounded to q's dtype before the product with V; everything else is float32.

        float8_e4m3fn keys and values become q's dtype exactly, and their scales are applied in float32.
        """
        return NumericsProfile(p=shape.q_dtype, accumulator="float32", partials="float32")

    def prepare(self, batch: Batch) -> Prepared:
        """Plan the launches of every layer that can run; the others refuse when they are run."""
        refusals = {
            index: self.supports(batch_shape(batch, index), self._platform) for index in range(len(batch.layers))
        }
        from attnconf.backends.triton.launch import Launches

        return Launches(batch, {index: refusal.reason for index, refusal in refusals.items() if refusal is not None})
