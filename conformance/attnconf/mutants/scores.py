"""Scores and heads: sm_scale, soft cap, sinks, GQA and head_dim (clauses 3 and 4)."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import CAPPED, FULL, SINKS, ask
from attnconf.mutants.source import Edit, Edited, edited

_SCALE = "(geometry.sm_scale * self._owner(layer).k_scale)"
_CAP = "scores = geometry.logits_soft_cap * torch.tanh(scores / geometry.logits_soft_cap)"
_OUT = "p, v.float())"
_SOFTMAX = "p = torch.softmax(scores, dim=3)"
_EXP = "p = (torch.exp"
_MASKED = "scores = scores.masked_fill(hidden, -math.inf)"
_CAPPED = f"""if geometry.logits_soft_cap is not None:
            {_CAP}
"""


def _heads(mapping: str) -> Edited:
    """Return the reference whose query head h reads KV head ``mapping``, an expression of h, group size g, n heads."""
    scaled = "k, v = _by_head(k, cache.k_scales), _by_head(v, cache.v_scales)"
    return edited(
        "reference",
        Edit(
            scaled,
            f"{scaled}\n        "
            "h, g, n = torch.arange(geometry.num_qo_heads), geometry.group_size, geometry.num_kv_heads\n        "
            f"k, v = (stored[:, ({mapping}).clamp_max(n - 1)] for stored in (k, v))",
        ),
        Edit("geometry.num_kv_heads, -1,", "geometry.num_qo_heads, -1,", times=2),
    )


_KERNEL = 'KERNEL = "torch-paged"'
_LSE = "lse = torch.logsumexp(scores, dim=3)"
_TOP = (
    f"{_KERNEL}\n\n\ndef _top(part, scores):\n    part = part if scores.shape[-1] > 1 else scores\n"
    "    top = part.amax(dim=3, keepdim=True)\n"
    "    return top[..., 0] + torch.log(torch.exp(scores - top).sum(dim=3))"
)
"""The log-sum-exp of ``scores``, over weights relative to the largest of ``part``; of no other row without sinks."""

MUTANTS = (
    Mutant(
        id="head-by-kv-heads",
        summary="a query head is divided by the number of KV heads, not by the group size",
        bug="PSAL-POSTECH/ONNXim#33",
        catalogue=("M23",),
        clause=Clause.GQA,
        make=_heads("h // n"),
        proof=ask("decode"),
    ),
    Mutant(
        id="head-modulo",
        summary="query heads are dealt to KV heads in turn",
        bug="HazyResearch/HipKittens#22",
        catalogue=("M23",),
        clause=Clause.GQA,
        make=_heads("h % n"),
        proof=ask("decode"),
    ),
    Mutant(
        id="group-padded-to-power-of-two",
        summary="a group of 3 query heads is taken for one of 4",
        bug="flashinfer-ai/flashinfer#1148",
        catalogue=("M23",),
        clause=Clause.GQA,
        make=_heads("h // (1 << (g - 1).bit_length())"),
        proof=ask("decode"),
    ),
    Mutant(
        id="group-larger-than-tile",
        summary="query heads behind the eighth of a group get the answer of the group's first ones",
        bug="flashinfer-ai/flashinfer#2380",
        clause=Clause.GQA,
        make=edited(
            "reference",
            Edit(
                "geometry.num_kv_heads, -1, geometry.head_dim)",
                "geometry.num_kv_heads, -1, geometry.head_dim)[:, :, torch.arange(geometry.group_size) % 8]",
            ),
        ),
        proof=ask("decode", FULL.model_copy(update={"num_qo_heads": 24})),
    ),
    Mutant(
        id="scale-without-log2e",
        summary="exp2 of scores in natural units: the factor log2(e) is missing",
        bug="flashinfer-ai/flashinfer#787",
        catalogue=("M35",),
        clause=Clause.SCORES,
        make=edited("reference", Edit(_SCALE, "(geometry.sm_scale * self._owner(layer).k_scale * math.log(2))")),
        proof=ask("decode"),
    ),
    Mutant(
        id="scale-twice",
        summary="sm_scale is applied to the query, and again to the scores",
        clause=Clause.SCORES,
        make=edited("reference", Edit(_SCALE, "(geometry.sm_scale**2 * self._owner(layer).k_scale)")),
        proof=ask("decode"),
    ),
    Mutant(
        id="scale-of-first-layer",
        summary="a kernel compiled for one sm_scale serves every layer of its shape",
        bug="flashinfer-ai/flashinfer#4014",
        catalogue=("M31", "M35"),
        clause=Clause.SCORES,
        make=edited("reference", Edit(_SCALE, "(self.batch.layers[0].geometry.sm_scale * self._owner(layer).k_scale)")),
        proof=ask("decode", FULL, FULL.model_copy(update={"sm_scale": 0.1})),
    ),
    Mutant(
        id="scale-default",
        summary="1/sqrt(head_dim) stands in for sm_scale",
        catalogue=("M35",),
        clause=Clause.SCORES,
        make=edited("reference", Edit(_SCALE, "(geometry.head_dim**-0.5 * self._owner(layer).k_scale)")),
        proof=ask("decode"),
    ),
    Mutant(
        id="softmax-without-maximum",
        summary="scores go through exp() as they are: it leaves float32 at 88.7",
        clause=Clause.SCORES,
        make=edited("reference", Edit(_SOFTMAX, f"{_EXP}(scores) / torch.exp(scores).sum(dim=3, keepdim=True))")),
        proof=ask("decode", seed=1),
    ),
    Mutant(
        id="maximum-starts-at-zero",
        summary="the running maximum starts at 0, not at -inf: a row of very low scores sums to 0",
        clause=Clause.SCORES,
        make=edited(
            "reference",
            Edit(
                _SOFTMAX,
                "top = scores.amax(dim=3, keepdim=True).clamp_min(0.0)\n        "
                f"{_EXP}(scores - top) / torch.exp(scores - top).sum(dim=3, keepdim=True))",
            ),
        ),
        proof=ask("decode", seed=2),
    ),
    Mutant(
        id="cap-ignored-in-prefill",
        summary="the soft cap is left out of long requests",
        bug="vllm-project/vllm-metal#666",
        catalogue=("M34",),
        clause=Clause.SCORES,
        make=edited(
            "reference",
            Edit("if geometry.logits_soft_cap is not None:", "if geometry.logits_soft_cap is not None and q_len == 1:"),
        ),
        proof=ask("extend", CAPPED),
    ),
    Mutant(
        id="cap-after-mask",
        summary="the soft cap comes after the mask and lifts -inf to -cap",
        bug="flashinfer-ai/flashinfer#350",
        catalogue=("M34",),
        clause=Clause.SCORES,
        make=edited(
            "reference",
            Edit(_CAPPED, "scores = scores + 0.0\n"),
            Edit(_MASKED, f"{_MASKED}\n        {_CAPPED}"),
        ),
        proof=ask("extend", CAPPED),
    ),
    Mutant(
        id="cap-of-scaled-scores",
        summary="tanh takes scores that already carry log2(e)",
        bug="sgl-project/sgl-kernel-xpu#491",
        catalogue=("M34",),
        clause=Clause.SCORES,
        make=edited(
            "reference",
            Edit(
                _CAP,
                "scores = geometry.logits_soft_cap * torch.tanh(scores / math.log(2) / "
                "geometry.logits_soft_cap) * math.log(2)",
            ),
        ),
        proof=ask("decode", CAPPED),
    ),
    Mutant(
        id="cap-by-exp-ratio",
        summary="tanh is (exp(2x) - 1) / (exp(2x) + 1), which overflows for scores far above the cap",
        bug="vllm-project/vllm#56579",
        catalogue=("M34",),
        clause=Clause.SCORES,
        make=edited(
            "reference",
            Edit(
                _CAP,
                "e = torch.exp(2 * scores / geometry.logits_soft_cap)\n            scores = "
                "geometry.logits_soft_cap * (e - 1) / (e + 1)",
            ),
        ),
        proof=ask("decode", CAPPED, seed=2),
    ),
    Mutant(
        id="sinks-ignored",
        summary="the sinks are dropped",
        clause=Clause.SCORES,
        make=edited("reference", Edit("if inputs.sinks is not None:", "if False:")),
        proof=ask("decode", SINKS),
    ),
    Mutant(
        id="sink-of-first-head",
        summary="all query heads of a group take the group's first sink",
        clause=Clause.SCORES,
        make=edited(
            "reference", Edit(".expand(-1, -1, q_len, 1)", "[:, :1].expand(-1, geometry.group_size, q_len, 1)")
        ),
        proof=ask("decode", SINKS),
    ),
    Mutant(
        id="sink-capped",
        summary="the soft cap is applied to sinks, too",
        clause=Clause.SCORES,
        make=edited(
            "reference",
            Edit(
                "sinks = inputs.sinks.float()",
                "cap = geometry.logits_soft_cap or math.inf\n            sinks = (cap * "
                "torch.tanh(inputs.sinks.float() / cap) if cap < math.inf else inputs.sinks.float())",
            ),
        ),
        proof=ask("decode", CAPPED.model_copy(update={"sinks": True})),
    ),
    Mutant(
        id="sink-has-a-value",
        summary="the sink's mass is given to the newest value",
        clause=Clause.SCORES,
        make=edited(
            "reference",
            Edit(
                "p = torch.softmax(scores, dim=3)[..., : k.shape[0]]",
                "p = torch.softmax(scores, dim=3)\n        p = torch.cat([p[..., : k.shape[0] - 1], "
                "p[..., k.shape[0] - 1 :].sum(3, keepdim=True)], dim=3)",
            ),
        ),
        proof=ask("decode", SINKS),
    ),
    Mutant(
        id="head-dim-128-of-more",
        summary="scores sum over the first 128 elements of a head",
        bug="gittensor-ai-lab/sparkinfer#330",
        catalogue=("M38",),
        clause=Clause.SCORES,
        make=edited(
            "reference",
            Edit(
                '"mhgd,nhd->hgmn", q.view(q_len, geometry.num_kv_heads, -1, geometry.head_dim), k.float())',
                '"mhgd,nhd->hgmn", q.view(q_len, geometry.num_kv_heads, -1, geometry.head_dim)[..., '
                ":128], k.float()[..., :128])",
            ),
        ),
        proof=ask("decode", FULL.model_copy(update={"head_dim": 256})),
    ),
    Mutant(
        id="head-dim-half",
        summary="from 256 on, the second half of a query meets the first half of the key",
        bug="flashinfer-ai/flashinfer#2137",
        catalogue=("M38",),
        clause=Clause.SCORES,
        make=edited(
            "reference",
            Edit(
                "-1, geometry.head_dim), k.float())",
                "-1, geometry.head_dim), torch.cat([k.float()[..., : geometry.head_dim // 2]] * 2, "
                "-1) if geometry.head_dim >= 256 else k.float())",
            ),
        ),
        proof=ask("decode", FULL.model_copy(update={"head_dim": 256})),
    ),
    Mutant(
        id="head-dim-in-blocks-of-64",
        summary="the product with V runs over head_dim // 64 blocks: the rest of a head stays 0",
        bug="vllm-project/vllm#34570",
        catalogue=("M38",),
        clause=Clause.SCORES,
        make=edited(
            "reference", Edit(_OUT, "p, v.float() * (torch.arange(geometry.head_dim) < geometry.head_dim // 64 * 64))")
        ),
        proof=ask("decode", FULL.model_copy(update={"head_dim": 80})),
    ),
    Mutant(
        id="sink-outside-the-maximum",
        summary="weights are relative to the largest score of a key: the weight of a sink far above it is infinite",
        clause=Clause.SCORES,
        make=edited("reference", Edit(_LSE, "lse = _top(scores[..., :-1], scores)"), Edit(_KERNEL, _TOP)),
        proof=ask("decode", SINKS, seed=3),
    ),
    Mutant(
        id="sink-for-the-maximum",
        summary="weights are relative to the sink: those of keys far above it are infinite",
        clause=Clause.SCORES,
        make=edited("reference", Edit(_LSE, "lse = _top(scores[..., -1:], scores)"), Edit(_KERNEL, _TOP)),
        proof=ask("verify", SINKS, seed=4),
    ),
)
