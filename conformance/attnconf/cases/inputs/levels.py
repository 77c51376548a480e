"""Levels: where the scores of ordinary keys lie, and how far above them a witness's score is raised."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from attnconf.cases.dtypes import QUANTISED
from attnconf.cases.inputs.witnesses import SATURATED
from attnconf.cases.sight import seen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.cases.case import Case, Layer
    from attnconf.cases.inputs.witnesses import Probe

_CAP_SHARE = 0.8
"""Ordinary scores under a soft cap, as a share of it: there the cap bends them most without flattening them."""

_CAP_ROOM = 0.3
"""Ordinary scores lie above zero if this share of the cap is room enough for a probe to rise in, else below."""

_LOW_IN_CAP = -2.0
"""Ordinary scores in some cases, as a multiple of the cap: bent almost to -cap, the score of a key that is capped
after it was hidden."""

_CAP_MOST = 0.97
"""The highest score of a probe, as a share of the cap: a score at the cap would be infinite before it."""

_SATURATION = 100.0
"""Saturated scores, as a multiple of the cap: exp(x) overflows float32 at x = 88.7, and exp(2 x) at half of it."""

_FLOAT16_PRODUCT = 16_384.0
"""The largest product q.k of a probe in float16, in which some kernels also accumulate."""

_LEVEL = 160.0
"""Distance of all scores from zero in some cases: it cancels in a softmax, but exp(160) and exp(-160) leave float32."""

_LEVEL_EVERY = 8
"""Of so many seeds one raises all scores by ``_LEVEL``, and one lowers them."""

_CANCELLING = 5
"""Of ``_LEVEL_EVERY`` seeds one has values that cancel: one without other levels, and without a saturated key."""

_FAR_LEVEL = 12_000.0
"""The least distance in half of the cases that have one: below -10,000, which some kernels write for "hidden" to avoid
infinities. Numbers beyond it are written for products before they are scaled, and met there by a small sm_scale. At
this distance the bound is still a few hundredths of a value."""

_FAR_TURN = 2 * _LEVEL_EVERY
"""Of the seeds with a level every second run of so many has the far one, or the low one under a cap."""

AMPLITUDE = 16.0
"""Component of every key along the axis that shifts all scores alike, in units of an ordinary component."""

_STEPS = 16
"""Steps of a mantissa that every dtype has."""

_MOST_COMPONENT = 2.0**15
"""The largest component of a query along that axis: it must fit into float16."""

_FAR_SINK = 100.0
"""Distance of a far sink from its scores: exp(100) and exp(-100) leave float32, so its place decides about a row."""

_FAR_SINKS = {3: _FAR_SINK, 4: -_FAR_SINK}
"""Of ``_LEVEL_EVERY`` seeds one has sinks far above the scores, and one far below."""

_FAR_HEADS = 4
"""Of so many heads one has a far sink: above the scores it takes all of the row's attention, and no key shows there."""

_LOG_MEAN_WEIGHT = 0.5
"""The logarithm of the mean of exp(s) over scores of standard deviation one: an ordinary key's weight."""


def raw_base(case: Case, layer: Layer) -> float:
    """Return the mean score of ordinary keys before a soft cap."""
    cap = layer.logits_soft_cap
    if cap is None:
        component = _representable(_FAR_LEVEL / layer.sm_scale / AMPLITUDE)
        level = component * AMPLITUDE * layer.sm_scale if far(case) and component <= _MOST_COMPONENT else _LEVEL
        return {1: level, 2: -level}.get(case.seed % _LEVEL_EVERY, 0.0)
    if far(case):
        return _LOW_IN_CAP * cap
    longest = max(request.kv_len for request in case.requests)
    return _CAP_SHARE * cap if _CAP_ROOM * cap >= math.log(max(longest, 2)) + 1.0 else -_CAP_SHARE * cap


def far(case: Case) -> bool:
    """Return whether the scores of ``case`` that are raised or lowered lie at the far level, or at the end of a cap.

    Numbers of 8 or 4 bits would be cut off at the end of their format, or too coarse.
    """
    return case.seed // _FAR_TURN % 2 == 1 and not QUANTISED & {case.q_dtype, case.kv_dtype}


def cancels(case: Case) -> bool:
    """Return whether values of ``case`` cancel (``cancelling.py``)."""
    return case.seed % _LEVEL_EVERY == _CANCELLING


def ordinary_seed(seed: int) -> int:
    """Return ``seed`` if scores and sinks lie near zero under it, else the next one below that has neither level."""
    turn = seed % _LEVEL_EVERY
    near = seed if turn not in {1, 2, *_FAR_SINKS} else seed - turn
    return near if near // _FAR_TURN % 2 == 0 else near - _FAR_TURN


def _representable(number: float) -> float:
    """Return the next number from ``number`` on that every dtype has: probes rise above a level that is not rounded."""
    mantissa, exponent = math.frexp(number)
    return math.ldexp(math.ceil(mantissa * _STEPS) / _STEPS, exponent)


def base_score(case: Case, layer: Layer) -> float:
    """Return the mean score of ordinary keys, from which the scores of sinks and probes are counted."""
    cap = layer.logits_soft_cap
    base = raw_base(case, layer)
    return base if cap is None else cap * math.tanh(base / cap)


def sink_shift(case: Case, layer: Layer, head: int) -> float:
    """Return how far the sink of ``head`` lies from its usual place, just above the scores of ordinary keys.

    Where all scores are raised or lowered, the sinks of half the seeds stay around zero: beyond all of them, or below.
    A layer of few heads keeps all sinks that are not below its scores.
    """
    turn, rest = case.seed % _LEVEL_EVERY, case.seed // _LEVEL_EVERY
    base = raw_base(case, layer) if layer.logits_soft_cap is None else 0.0
    shift = -base if base and rest % 2 else _FAR_SINKS.get(turn, 0.0)
    if shift > 0.0 and layer.num_qo_heads < _FAR_HEADS:
        return 0.0
    return shift if (head + rest) % _FAR_HEADS == 0 or layer.num_qo_heads < _FAR_HEADS else 0.0


def raised_score(case: Case, layer: Layer, rise: float) -> float:
    """Return sm_scale * q.k of a key whose score lies ``rise`` above ordinary ones, but below the cap."""
    cap = layer.logits_soft_cap
    score = base_score(case, layer) + rise
    return score if cap is None else cap * math.atanh(min(_CAP_MOST, score / cap))


def target_scores(case: Case, layer: Layer, probes: Sequence[Probe]) -> list[float]:
    """Return sm_scale * q.k of the key of each probe, which then takes about half of its row's attention."""
    sights: dict[tuple[int, int], int] = {}  # of how many keys a row sees; it has a probe for each head, and more
    scores: dict[int, float] = {}  # which is all that a score depends on
    found = []
    for probe in probes:
        if probe.name == SATURATED and layer.logits_soft_cap is not None:
            product = _FLOAT16_PRODUCT if case.q_dtype == "float16" else math.inf
            found.append(min(_SATURATION * layer.logits_soft_cap, product * layer.sm_scale))
            continue
        row = probe.request, probe.row
        if row not in sights:
            sights[row] = seen(layer, case.requests[probe.request], probe.row).keys
        visible = sights[row]
        if visible not in scores:
            scores[visible] = raised_score(case, layer, math.log(max(visible, 2)) + _LOG_MEAN_WEIGHT)
        found.append(scores[visible])
    return found
