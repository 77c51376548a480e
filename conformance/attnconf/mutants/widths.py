"""Values that are narrower or wider than keys, and are taken for as wide (clauses 3 and 14)."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import FULL, ask, quantised
from attnconf.mutants.source import Edit, edited

NARROW = FULL.model_copy(update={"head_dim": 96, "head_dim_v": 64})
WIDE = FULL.model_copy(update={"head_dim_v": 128})
_OUT = "(out / inputs.out_scale)"
_ROWS = "torch.arange(v.shape[0] * v.shape[1], device=v.device)[:, None]"
_STRIDED = (
    f"v = v.flatten()[({_ROWS} * k.shape[2] + torch.arange(v.shape[2], device=v.device)) % v.numel()].view(v.shape)"
)
_GATHERED = "for cache in self._caches(layer))\n"

MUTANTS = (
    Mutant(
        id="values-by-strides-of-keys",
        summary="narrower values are read with the strides of the keys",
        clause=Clause.LAYOUT,
        make=edited("reference", Edit(_GATHERED, f"{_GATHERED}        {_STRIDED}\n")),
        proof=ask("decode", NARROW),
    ),
    Mutant(
        id="wider-values-by-strides-of-keys",
        summary="wider values are read with the strides of the keys",
        clause=Clause.LAYOUT,
        make=edited("reference", Edit(_GATHERED, f"{_GATHERED}        {_STRIDED}\n")),
        proof=ask("extend", WIDE),
    ),
    Mutant(
        id="8-bit-values-by-strides-of-keys",
        summary="values of 8 bits and another width than keys are read with the strides of the keys",
        bug="flashinfer-ai/flashinfer#4976",
        clause=Clause.LAYOUT,
        make=edited(
            "reference", Edit(_GATHERED, f"{_GATHERED}        if v.element_size() == 1:\n            {_STRIDED}\n")
        ),
        proof=quantised("extend", NARROW.model_copy(update={"k_scale": 0.5, "v_scale": 1.5})),
    ),
    Mutant(
        id="answer-as-wide-as-keys",
        summary="the heads of the answer are written as far apart as those of the queries",
        clause=Clause.LAYOUT,
        make=edited(
            "reference",
            Edit(
                _OUT,
                "(torch.nn.functional.pad(out, (0, max(0, q.shape[2] - out.shape[2]))).flatten(1)"
                "[:, : out[0].numel()].view(out.shape) / inputs.out_scale)",
            ),
        ),
        proof=ask("mixed", NARROW),
    ),
    Mutant(
        id="scale-of-the-values",
        summary="the softmax scale is made of the width of the values",
        clause=Clause.SCORES,
        make=edited(
            "reference",
            Edit(
                "geometry.sm_scale * self._owner(layer).k_scale",
                "geometry.sm_scale * (geometry.head_dim / geometry.value_dim) ** 0.5 * self._owner(layer).k_scale",
            ),
        ),
        proof=ask("verify", NARROW),
    ),
    Mutant(
        id="partials-as-wide-as-keys",
        bug="openvinotoolkit/openvino#29936",
        summary="partial results of split keys lie as far apart as keys are wide, and are read as far apart as values",
        clause=Clause.LAYOUT,
        make=edited(
            "triton",
            Edit(
                "tl.store((partial + place * VALUE_DIM)",
                "tl.store((partial + place * HEAD_DIM)",
                "triton.kernel",
            ),
            Edit(
                "partial_size=states * layer.geometry.value_dim",
                "partial_size=states * layer.geometry.head_dim",
                "triton.launch",
            ),
        ),
        proof=ask("decode", NARROW, requests=({"prefix_len": 1700},), paging={"page_size": 64}),
    ),
)
