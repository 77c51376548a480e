"""Loaded: the kernels of a list that FlashInfer keeps for one GPU and one set of dtypes, by the key it looks up."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from attnconf.backends.flashinfer.trtllm_gen.row import Row
    from attnconf.backends.flashinfer.trtllm_gen.rules import Rules
    from attnconf.backends.flashinfer.trtllm_gen.traits import Key

FITTING: dict[tuple[int, int], frozenset[str]] = {
    (10, 0): frozenset({"100f", "100"}),
    (10, 3): frozenset({"100f", "103"}),
}
"""Which kernels run on which compute capability (``isSMCompatible``); on no other."""

_FAMILY = "100f"
_MOST_MEMORY = 227 * 1024
"""Bytes of shared memory that a block may ask for on SM 10.x (the CUDA C++ programming guide, compute capabilities)."""

_RESERVED = 1024

Dtypes = tuple[str, str, str, str]


class AmbiguousListError(ValueError):
    """Two kernels of a list have one key and run on one GPU: FlashInfer refuses such a list, too."""


def load(rows: Iterable[Row], found: Rules, sm: tuple[int, int]) -> Mapping[Dtypes, Mapping[Key, Row]]:
    """Return the kernels for compute capability ``sm``, as ``loadKernels`` does. Raises ``AmbiguousListError``.

    A kernel for the whole family gives way to one for exactly this GPU.
    """
    loaded: dict[Dtypes, dict[Key, Row]] = {}
    for row in rows:
        if row.sm not in FITTING[sm] or (found.limits_memory and row.shared_memory + _RESERVED > _MOST_MEMORY):
            continue
        kernels = loaded.setdefault(row.dtypes, {})
        key = row.key
        other = kernels.get(key)
        if other is None or other.sm == _FAMILY != row.sm:
            kernels[key] = row
        elif row.sm != _FAMILY or other.sm == _FAMILY:
            message = f"{other.name} and {row.name} have one key"
            raise AmbiguousListError(message)
    return loaded
