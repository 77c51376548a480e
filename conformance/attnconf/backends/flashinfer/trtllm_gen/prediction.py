"""Prediction: what FlashInfer's list and selector answer for a launch: kernels, none, or unknown to attnconf."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from attnconf.backends.flashinfer.package import PACKAGE
from attnconf.backends.flashinfer.trtllm_gen.derived import shipped_rows
from attnconf.backends.flashinfer.trtllm_gen.launch import NoKernelError
from attnconf.backends.flashinfer.trtllm_gen.loaded import FITTING, load
from attnconf.backends.flashinfer.trtllm_gen.releases import RELEASES, release_of
from attnconf.backends.flashinfer.trtllm_gen.selector import Selector

if TYPE_CHECKING:
    from collections.abc import Mapping

    from packaging.version import Version

    from attnconf.backends.flashinfer.trtllm_gen.loaded import Dtypes
    from attnconf.backends.flashinfer.trtllm_gen.question import Question
    from attnconf.backends.flashinfer.trtllm_gen.releases import Release

MULTIPROCESSORS: dict[tuple[int, int], tuple[int, ...]] = {(10, 0): (148, 152), (10, 3): (148, 152, 160)}
"""SMs of the GPUs of a compute capability: B200 has 148, GB200 152, B300 and GB300 148 to 160."""


@dataclass(frozen=True)
class Listed:
    """The kernels in which a launch can end: several where the GPU's occupancy decides."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Absent:
    """The list has no such kernel: ``key`` is what the selector looks up in vain."""

    key: str


@dataclass(frozen=True)
class Unknown:
    """attnconf cannot tell, and why, as a clause."""

    why: str


Answer = Listed | Absent | Unknown


def why_unknown(version: Version | None, sm: tuple[int, int] | None) -> str | None:
    """Return why nothing can be told about a release on a compute capability, None where all can be."""
    if sm not in FITTING:
        text = "no GPU" if sm is None else f"SM {sm[0]}.{sm[1]}"
        return f"unknown to attnconf: trtllm-gen's list is read for SM 10.0 and 10.3, not for {text}"
    release = None if version is None else release_of(version)
    if release is None:
        known = f"{RELEASES[0].version} to {RELEASES[-1].version}"
        return f"unknown to attnconf: it has not read {PACKAGE} {version}, only the releases {known}"
    if release.rules is None:
        last = max(one.version for one in RELEASES if one.rules is not None)
        return (
            f"unknown to attnconf: the kernel list {release.kernels.short} of {PACKAGE} {version} is not in the package"
            f" index, and its selector has no model; {last} is the last release that has both"
        )
    return None


def predict(question: Question, version: Version | None, sm: tuple[int, int] | None) -> Answer:
    """Return which kernels the launch ``question`` can end in on one release and compute capability.

    Raises ``InvalidInputError`` when a list that attnconf ships was changed.
    """
    release = None if version is None else release_of(version)
    why = why_unknown(version, sm)
    if why is not None or release is None or sm is None:
        return Unknown(why or "unknown to attnconf")
    kernels = _selectors(release, sm)
    dtypes = (question.q_dtype, question.kv_dtype, question.kv_dtype, question.o_dtype)
    selector = kernels.get(dtypes)
    if selector is None:
        return Absent(f"no kernel has dtypeQ={dtypes[0]}, dtypeK={dtypes[1]}, dtypeV={dtypes[2]}, dtypeOut={dtypes[3]}")
    try:
        return Listed(tuple(dict.fromkeys(row.name for row in selector.select(question))))
    except NoKernelError as error:
        return Absent(str(error))


@cache
def _selectors(release: Release, sm: tuple[int, int]) -> Mapping[Dtypes, Selector]:
    if release.rules is None:
        return {}
    loaded = load(shipped_rows(release.kernels), release.rules, sm)
    return {dtypes: Selector(release.rules, kernels) for dtypes, kernels in loaded.items()}
