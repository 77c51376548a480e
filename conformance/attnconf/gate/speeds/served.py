"""Served: the speeds that sglang's and vLLM's serving benchmarks report, by one name each.

vLLM's ``vllm bench serve`` and sglang's ``bench_serving`` (their versions are those of ``gate/serving/bench.py``) agree
on most names. sglang says ``total_throughput`` and ``..._e2e_latency_ms`` for vLLM's ``total_token_throughput`` and
``..._e2el_ms``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from attnconf.policy.claims import Served

if TYPE_CHECKING:
    from attnconf.fields import Fields

FIELDS: tuple[str, ...] = get_args(Served)
_SGLANG = {
    "total_token_throughput": "total_throughput",
    "mean_e2el_ms": "mean_e2e_latency_ms",
    "median_e2el_ms": "median_e2e_latency_ms",
    "p99_e2el_ms": "p99_e2e_latency_ms",
}


def served_numbers(fields: Fields) -> dict[str, float]:
    """Return the speeds of one result that are above 0. Raises ``InvalidInputError`` for what is no number."""
    found = {}
    for name in FIELDS:
        given = name if fields.has(name) else _SGLANG.get(name, name)
        if fields.has(given):
            value = fields.data[given]
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
                fields.refuse(given, value, "a number of 0 or more")
            if value > 0:
                found[name] = float(value)
    return found


def is_time(field: str) -> bool:
    """Whether less of ``field`` is better."""
    return field.endswith("_ms")
