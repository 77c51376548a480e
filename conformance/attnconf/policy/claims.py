"""Claims: what a policy asserts of speed, and by which evidence it may be judged."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from attnconf.policy.requirements import Name, Selection, Sentence

Percent = Annotated[float, Field(ge=-100, le=10**6, allow_inf_nan=False)]

Measure = Literal["kernel", "end to end"]
Evidence = Literal["single run", "paired"]

Served = Literal[
    "request_throughput", "output_throughput", "total_token_throughput",
    "mean_ttft_ms", "median_ttft_ms", "p99_ttft_ms",
    "mean_tpot_ms", "median_tpot_ms", "p99_tpot_ms",
    "mean_itl_ms", "median_itl_ms", "p99_itl_ms",
    "mean_e2el_ms", "median_e2el_ms", "p99_e2el_ms",
]  # fmt: skip
"""The fields of vLLM's serving benchmark; ``served.py`` of ``gate/speeds`` has what sglang calls them."""


class Claim(Selection):
    """A claimed gain of a rule's backend ``over`` another: ``at_least`` (to ``at_most``) percent more speed.

    It is about the required cells of its rule that it selects: all without a selection. ``measure`` says whose speed it
    is. That of a ``kernel`` is proven by speed receipts of these cells. That of serving ``end to end`` is proven by
    paired serving results in ``field`` alone, since a kernel is a part of a step and other parts do not gain with it.
    ``evidence`` is what the claim itself rests on: a ``single run`` is a lead, which is shown and never judged.
    ``unproven`` says what becomes of a gate that cannot prove it. A file may call ``over`` the ``baseline``, as older
    ones do.
    """

    rule: Name
    metric: Sentence
    measure: Measure = "end to end"
    field: Served | None = None
    at_least: Percent
    at_most: Percent | None = None
    over: Name
    evidence: Evidence = "single run"
    unproven: Literal["warn", "fail"] = "warn"
    source: Sentence

    @model_validator(mode="before")
    @classmethod
    def _rename(cls, data: object) -> object:
        if isinstance(data, dict) and "baseline" in data and "over" not in data:
            return {("over" if name == "baseline" else name): value for name, value in data.items()}
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.at_most is not None and self.at_most < self.at_least:
            raise ValueError(f"at_most from at_least = {self.at_least:g} on, not {self.at_most:g}")
        if self.evidence == "single run" and self.unproven == "fail":
            raise ValueError('unproven = "fail" needs evidence = "paired": a single run is never proven')
        if self.measure == "kernel" and self.field is not None:
            raise ValueError(f'field belongs to measure = "end to end", and {self.field} is of serving')
        if self.measure == "end to end" and self.evidence == "paired" and self.field is None:
            raise ValueError('evidence = "paired" of measure = "end to end" needs a field, such as output_throughput')
        return self

    @property
    def assertion(self) -> str:
        """The claim in words, and whose it is."""
        gain = f"{self.at_least:g} %" if self.at_most is None else f"{self.at_least:g} to {self.at_most:g} %"
        bound = " or more" if self.at_most is None else ""
        return f"rule {self.rule} gains {gain}{bound} in {self.metric} over {self.over} ({self.source})"

    @property
    def sentence(self) -> str:
        """The claim in words, and that this run has not measured it."""
        return f"claimed, not measured here: {self.assertion}"
