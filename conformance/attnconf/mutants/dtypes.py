"""8-bit queries and answers, and calibrated layers whose queries and answers have 16 bits (clause 18)."""

from __future__ import annotations

from attnconf.cases.case import Paging
from attnconf.cases.dtypes import FP8
from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import SCALED, SHARED, quantised
from attnconf.mutants.source import Edit, edited

_CALIBRATED = SCALED.model_copy(update={"q_scale": 0.25, "out_scale": 0.05})
_ANOTHER = _CALIBRATED.model_copy(update={"q_scale": 0.06, "out_scale": 0.2})
_REDIRECTED = SHARED.model_copy(update={"q_scale": 0.06, "k_scale": 0.25, "v_scale": 2.0})
_EIGHT_BIT = {"q_dtype": FP8, "out_dtype": "bfloat16"}
_ALL = {"q_dtype": FP8, "out_dtype": FP8}
_Q = "inputs.q[rows].float() * inputs.q_scale"
_OUT = "(out / inputs.out_scale)"

MUTANTS = (
    Mutant(
        id="q-scale-of-16-bits",
        summary="the layer's q_scale is applied to a query that was never quantised",
        bug="vllm-project/vllm#53754",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit(_Q, "inputs.q[rows].float() * geometry.q_scale")),
        proof=quantised("decode", _CALIBRATED),
    ),
    Mutant(
        id="q-scale-dropped",
        summary="an 8-bit query is read without its scale",
        bug="flashinfer-ai/flashinfer#1242",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit(_Q, "inputs.q[rows].float()")),
        proof=quantised("decode", _CALIBRATED, **_EIGHT_BIT),
    ),
    Mutant(
        id="q-scale-dropped-in-verify",
        summary="the kernel for several query tokens takes 1 for the scale of an 8-bit query",
        clause=Clause.QUANTISED,
        make=edited(
            "reference", Edit(_Q, "inputs.q[rows].float() * (inputs.q_scale if rows.stop - rows.start == 1 else 1.0)")
        ),
        proof=quantised("verify", _CALIBRATED, **_EIGHT_BIT),
    ),
    Mutant(
        id="q-scale-squared",
        summary="the scale of an 8-bit query is in the query and in the softmax scale",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit(_Q, "inputs.q[rows].float() * inputs.q_scale**2")),
        proof=quantised("extend", _CALIBRATED, **_EIGHT_BIT),
    ),
    Mutant(
        id="q-scale-of-first-layer",
        summary="the scale of queries is taken from the first layer for all",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit(_Q, "inputs.q[rows].float() * self.batch.layers[0].q_scale")),
        proof=quantised("decode", _CALIBRATED, _ANOTHER, **_EIGHT_BIT),
    ),
    Mutant(
        id="q-scale-of-owner",
        summary="a redirected layer counts its queries with the scale of the layer whose keys it reads",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit(_Q, "inputs.q[rows].float() * self._owner(layer).q_scale")),
        proof=quantised("decode", _CALIBRATED, _REDIRECTED, **_EIGHT_BIT),
    ),
    Mutant(
        id="fp8-query-drops-k-scale",
        summary="the path for 8-bit queries multiplies stored bytes and forgets k_scale",
        bug="vllm-project/vllm#42580",
        clause=Clause.QUANTISED,
        make=edited(
            "reference",
            Edit(
                "self._owner(layer).k_scale)", "(1.0 if inputs.q.element_size() == 1 else self._owner(layer).k_scale))"
            ),
        ),
        proof=quantised("decode", _CALIBRATED, **_EIGHT_BIT),
    ),
    Mutant(
        id="out-scale-of-16-bits",
        summary="out_scale is applied although the answer has 16 bits",
        bug="NVIDIA/TensorRT-LLM#12609",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit(_OUT, "(out / geometry.out_scale)")),
        proof=quantised("extend", _CALIBRATED),
    ),
    Mutant(
        id="out-scale-dropped",
        summary="an 8-bit answer is stored without its scale",
        bug="vllm-project/vllm#55670",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit(_OUT, "out")),
        proof=quantised("decode", _CALIBRATED, **_ALL),
    ),
    Mutant(
        id="out-scale-inverted",
        summary="an 8-bit answer is multiplied by its scale",
        bug="vllm-project/vllm#36297",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit(_OUT, "(out * inputs.out_scale)")),
        proof=quantised("decode", _CALIBRATED, **_ALL),
    ),
    Mutant(
        id="out-scale-dropped-in-prefill",
        summary="the merge after prefill knows no scale of the answer",
        bug="ROCm/vllm#569",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit(_OUT, "(out / (inputs.out_scale if q_len == 1 else 1.0))")),
        proof=quantised("extend", _CALIBRATED, **_ALL),
    ),
    Mutant(
        id="trtllm-q-scale-dropped",
        summary="the fused scale of the first product has no q_scale",
        clause=Clause.QUANTISED,
        make=edited("trtllm_mha", Edit(" * inputs.q_scale,", ",")),
        proof=quantised("extend", _CALIBRATED, paging=Paging(page_size=16), **_EIGHT_BIT),
    ),
)
