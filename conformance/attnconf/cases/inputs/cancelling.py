"""Cancelling: keys of opposite values and one score, so that what is left of a row's answer is small beside its terms.

An answer is rounded to its dtype, and the bound allows for that: it hides what a kernel loses before. Where large terms
cancel, little is rounded and all that was lost shows: bits of P, of partial sums, of values that were dequantised. In
some cases a required probe gets a partner, a key as far from the other end of what its row sees: its key is the same,
so its weight is, and of half of its value's numbers the sign is the other. Whoever loses one of the two reads the other
alone, so a lost key shows as well. The other half of the numbers are as they were, for mistakes that move weights
alone. Which cases these are says ``levels.cancels``: those with other levels have none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnconf.cases.inputs.witnesses import SATURATED
from attnconf.cases.sight import seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnconf.cases.case import Case, Layer
    from attnconf.cases.inputs.witnesses import Probe

_TRIES = 16
"""Keys that are tried as a partner, from the farthest one on."""

Place = tuple[int, int]
"""A key of a cache: its token in the batch, and its KV head."""


def cancel(k: torch.Tensor, v: torch.Tensor, pairs: Sequence[tuple[Place, Place]]) -> None:
    """Give the second key of each of ``pairs`` the first one's key, and the opposite of half of its value.

    ``k`` and ``v`` are [tokens, KV heads, width], before they are stored; numbers are copied alone, so the bits are the
    same on every device.
    """
    if not pairs:
        return
    index = torch.tensor(pairs, dtype=torch.int64).to(k.device, non_blocking=True)
    (token, head), (other, beside) = index[:, 0].T, index[:, 1].T
    half = v.shape[2] // 2
    k[other, beside] = k[token, head]
    v[other, beside, half:] = -v[token, head, half:]


def pairs_of(
    case: Case, readers: Sequence[tuple[Layer, Sequence[Probe]]], starts: Sequence[int], origins: Sequence[int] | None
) -> list[tuple[Place, Place]]:
    """Return the probes of the ``readers`` of one cache that get a partner, and these.

    ``starts`` are the first tokens of requests among those of the batch, and ``origins`` the token whose key each one
    has, None for its own. No key is in two pairs, and no probe is a partner.
    """

    def place(request: int, token: int, head: int) -> Place:
        there = starts[request] + token
        return (there if origins is None else origins[there]), head

    taken = {
        place(probe.request, probe.token, probe.head // layer.group_size)
        for layer, probes in readers
        for probe in probes
    }
    paired: set[Place] = set()
    found = []
    for layer, probes in readers:
        for probe in probes:
            own = place(probe.request, probe.token, probe.head // layer.group_size)
            if not probe.required or probe.name == SATURATED or own in paired:
                continue
            tokens = _far_from(case, layer, probe)
            partner = next((one for token in tokens if (one := place(probe.request, token, own[1])) not in taken), None)
            if partner is not None:
                paired.add(own)
                taken.add(partner)
                found.append((own, partner))
    return found


def _far_from(case: Case, layer: Layer, probe: Probe) -> Iterator[int]:
    """Yield some keys that the row of ``probe`` sees, the one on the other side first."""
    sight = seen(layer, case.requests[probe.request], probe.row)
    mirrored, count = sight.first + sight.last - probe.token, sight.last - sight.first + 1
    for step in range(min(_TRIES, count)):
        token = sight.first + (mirrored - sight.first + step) % count
        if token != probe.token and token not in sight.hidden:
            yield token
