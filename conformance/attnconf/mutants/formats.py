"""Keys and values of 8 bits in e5m2, read as if they were in another format, and scales of each head (clause 18)."""

from __future__ import annotations

from attnconf.cases.dtypes import E5M2
from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import FULL, SCALED, SHARED, quantised
from attnconf.mutants.source import Edit, edited

_GATHERED = "for cache in self._caches(layer))\n"
_VALUES = "p, v.float())"
_WIDE = {"kv_dtype": E5M2}
_TINY = SCALED.model_copy(update={"v_scale": 2.0**14})
_HUGE = SCALED.model_copy(update={"v_scale": 2.0**-12})

_HEADS = {"k_scales": (0.5, 2.0), "v_scales": (1.5, 0.25)}
_BY_HEAD = FULL.model_copy(update=_HEADS)
_READER = SHARED.model_copy(update={"k_scales": (4.0, 0.25), "v_scales": (0.5, 3.0)})
_COUNTED = "_by_head(k, cache.k_scales), _by_head(v, cache.v_scales)"

MUTANTS = (
    Mutant(
        id="e5m2-read-as-e4m3",
        summary="whatever the format of 8-bit keys and values is, they are read as e4m3",
        clause=Clause.QUANTISED,
        make=edited(
            "reference",
            Edit(
                _GATHERED,
                f"{_GATHERED}        if k.dtype is torch.float8_e5m2:\n"
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
    Mutant(
        id="head-scales-of-the-first",
        summary="a tensor of scales is read at its first number, for all heads",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit("stored.float() * scales[:, None]", "stored.float() * scales[:1, None]")),
        proof=quantised("decode", _BY_HEAD),
    ),
    Mutant(
        id="head-scales-by-query-head",
        summary="the scale of a key is that of the KV head whose number its query head has, or of the last one",
        clause=Clause.QUANTISED,
        make=edited(
            "reference",
            Edit(_COUNTED, "k, _by_head(v, cache.v_scales)"),
            Edit(
                "scores = scores * (geometry.sm_scale * self._owner(layer).k_scale)",
                "scores = scores * (geometry.sm_scale * self._owner(layer).k_scale)\n"
                "        if cache.k_scales is not None:\n"
                "            heads = torch.arange(geometry.num_qo_heads).clamp_max(geometry.num_kv_heads - 1)\n"
                "            scores = scores * cache.k_scales[heads].view(geometry.num_kv_heads, -1, 1, 1)",
            ),
        ),
        proof=quantised("extend", _BY_HEAD),
    ),
    Mutant(
        id="head-scales-swapped",
        summary="the tensors of scales of keys and of values change places",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit(_COUNTED, "_by_head(k, cache.v_scales), _by_head(v, cache.k_scales)")),
        proof=quantised("verify", _BY_HEAD),
    ),
    Mutant(
        id="head-scales-of-the-reader",
        summary="a redirected layer reads its owner's bytes with the scales of its own heads",
        clause=Clause.KV_SHARING,
        make=edited("reference", Edit("cache = self.batch.caches[inputs.cache]", "cache = self.batch.caches[layer]")),
        proof=quantised("decode", _BY_HEAD, _READER),
    ),
    Mutant(
        id="head-scales-not-merged",
        summary="where keys are split, the merged values miss the scales of their heads",
        clause=Clause.QUANTISED,
        make=edited(
            "triton",
            Edit("        v_scale = v_scale * tl.load(v_scales + tl.program_id(1))", "        pass", "triton.kernel"),
        ),
        proof=quantised("decode", _BY_HEAD, requests=({"prefix_len": 1700},), paging={"page_size": 64}),
    ),
)
