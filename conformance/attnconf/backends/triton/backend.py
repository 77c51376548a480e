"""The adapter: from a batch to launches of the kernels."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

from attnconf.backends.protocol import EvidenceKind, Promises, Unsupported, refusals
from attnconf.backends.triton.tuning import MAX_BLOCK, padded
from attnconf.backends.triton.variants import launch_builds
from attnconf.cases.dtypes import FP8
from attnconf.errors import BackendUnavailableError, UnsupportedError
from attnconf.precision import NumericsProfile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from attnconf.backends.builds import Build, BuildReport
    from attnconf.backends.protocol import Prepared
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform

MAX_HEAD_DIM = 512
"""The largest head_dim for which the kernels have block sizes."""

REMEDY = 'pip install "attnconf[triton]"'

FP8_SM = (8, 9)
"""The first compute capability with e4m3 conversions in hardware. Triton does not compile them for earlier ones."""


def require_triton() -> None:
    """Raise ``BackendUnavailableError`` with the remedy where a package is missing. Imports none.

    A torch may bring triton, but not numpy, which Triton's interpreter computes with.
    """
    for package in ("triton", "numpy"):
        if importlib.util.find_spec(package) is None:
            reason = f"backend triton needs the package {package}, which is not installed here; {REMEDY}"
            raise BackendUnavailableError(reason)


class TritonBackend:
    """Paged attention in Triton on ``platform``; promises every optional clause."""

    name = "triton"
    evidence: EvidenceKind = "kernel"
    promises = Promises(lse="natural", cuda_graph=True, cuda_graph_q_lens=True)

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or why this shape cannot run there."""
        if "triton" not in platform.packages:
            return Unsupported(f"triton is not installed; {REMEDY}")
        widest = max(shape.head_dim, shape.head_dim_v)
        if widest > MAX_HEAD_DIM:
            return Unsupported(f"head_dim {widest} is above {MAX_HEAD_DIM}")
        if padded(shape.group_size) * padded(widest) > MAX_BLOCK:
            return Unsupported(
                f"{shape.group_size} query heads per KV head at head_dim {widest} do not fit one block of rows"
            )
        if shape.kv_dtype == FP8 and platform.sm is not None and platform.sm < FP8_SM:
            return Unsupported(f"Triton compiles float8_e4m3fn from SM 8.9 on, and this is SM {platform.sm_text}")
        return None

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """P is rounded to the products' dtype before the one with V; everything else is float32.

        The products are in q's dtype, or in bfloat16 under an 8-bit query. What is stored in 8 bits becomes that
        dtype exactly, and scales are applied in float32.
        """
        products = "bfloat16" if shape.q_dtype == FP8 else shape.q_dtype
        return NumericsProfile(p=products, accumulator="float32", partials="float32")

    def builds(self, shapes: Iterable[KernelShape]) -> tuple[Build, ...]:
        """Return the launches to compile for the supported ones of ``shapes``; none where kernels are interpreted.

        There are none for a simulated platform, too, since Triton compiles for the GPU that it runs on.
        """
        if self._platform.sm is None or self._platform.simulated or os.environ.get("TRITON_INTERPRET") == "1":
            return ()
        supported = (shape for shape in shapes if self.supports(shape, self._platform) is None)
        found = {build.name: build for shape in supported for build in launch_builds(shape)}
        return tuple(found[name] for name in sorted(found))

    def is_built(self, build: Build) -> bool:
        """Return whether ``build`` is in Triton's cache."""
        from attnconf.backends.triton.build import marker

        return marker(build, self._platform).exists()

    def build(self, builds: Sequence[Build], jobs: int, progress: Callable[[str], None]) -> BuildReport:
        """Compile what is missing."""
        from attnconf.backends.triton.build import build_all

        return build_all(builds, self._platform, jobs, progress)

    def export(self, builds: Sequence[Build], folder: Path) -> tuple[Path, ...]:
        """Refuse: Triton names the entries of its cache by hashes that depend on the machine."""
        del builds, folder
        message = "compiled launches stay in Triton's own cache; to carry them, copy the folder TRITON_CACHE_DIR"
        raise UnsupportedError(message)

    def prepare(self, batch: Batch) -> Prepared:
        """Plan the launches of every supported layer; the others refuse when they are run."""
        declined = refusals(self, batch, self._platform)
        from attnconf.backends.triton.launch import Launches

        return Launches(batch, declined)
