"""Keys and values of 8 bits in e5m2, read as if they were in another format (clause 18)."""

from __future__ import annotations

from attnconf.cases.dtypes import E5M2
from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import SCALED, quantised
from attnconf.mutants.source import Edit, edited

_GATHERED = "for cache in self._caches(layer))\n"
_VALUES = "p, v.float())"
_WIDE = {"kv_dtype": E5M2}
_TINY = SCALED.model_copy(update={"v_scale": 2.0**14})
_HUGE = SCALED.model_copy(update={"v_scale": 2.0**-12})

MUTANTS = (
    Mutant(
        id="e5m2-read-as-e4m3",
        summary="whatever the format of 8-bit keys and values is, they are read as e4m3",
        clause=Clause.QUANTISED,
        make=edited(
            "reference",
            Edit(
                _GATHERED,
                f"{_GATHERED}        if k.element_size() == 1:\n"
                "            k, v = k.view(torch.float8_e4m3fn), v.view(torch.float8_e4m3fn)\n",
            ),
        ),
        proof=quantised("decode", **_WIDE),
    ),
    Mutant(
        id="e5m2-subnormals-are-zero",
        summary="values of e5m2 below its smallest normal number are read as zero",
        clause=Clause.QUANTISED,
        make=edited(
            "reference",
            Edit(_VALUES, "p, v.float() * (v.float().abs() >= (2.0**-14 if v.dtype is torch.float8_e5m2 else 0.0)))"),
        ),
        proof=quantised("extend", _TINY, **_WIDE),
    ),
    Mutant(
        id="e5m2-saturates-as-e4m3",
        summary="values of e5m2 become e4m3 on the way to the product, and end at 448",
        clause=Clause.QUANTISED,
        make=edited(
            "reference", Edit(_VALUES, "p, v.float().clamp(-448.0, 448.0) if v.element_size() == 1 else v.float())")
        ),
        proof=quantised("mixed", _HUGE, **_WIDE),
    ),
    Mutant(
        id="e5m2-has-no-scales",
        summary="the path for e5m2 takes its numbers as they are, since they need no scale to fit",
        clause=Clause.QUANTISED,
        make=edited(
            "reference",
            Edit(
                "(geometry.sm_scale * self._owner(layer).k_scale)",
                "(geometry.sm_scale * (1.0 if k.dtype is torch.float8_e5m2 else self._owner(layer).k_scale))",
            ),
            Edit(
                "* self._owner(layer).v_scale\n",
                "* (1.0 if v.dtype is torch.float8_e5m2 else self._owner(layer).v_scale)\n",
            ),
        ),
        proof=quantised("verify", **_WIDE),
    ),
    Mutant(
        id="e5m2-exponent-of-e4m3",
        summary="the kernel moves the exponent of e5m2 by the bias of e4m3",
        clause=Clause.QUANTISED,
        make=edited(
            "triton",
            Edit(
                ".to(tl.float16, bitcast=True).to(tl.float32)  # float16, cut off",
                ".to(tl.float16, bitcast=True).to(tl.float32) * 256.0",
                "triton.tile",
            ),
        ),
        proof=quantised("decode", **_WIDE),
    ),
)
