"""Faults in scores, heads and scales, and in whose traits a layer has."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.source import Edit
from ci.benchmarks.blame.fault import MASKED, SCALED, Fault, P, behind, reference

_CAP = "scores = geometry.logits_soft_cap * torch.tanh(scores / geometry.logits_soft_cap)"
_SINKS = "sinks = inputs.sinks.float().view("
_V_SCALE = "* self._owner(layer).v_scale"
_Q_SCALE = "* inputs.q_scale"
_OUT_SCALE = "(out / inputs.out_scale)"
_HEADS = 'scores = torch.einsum("mhgd,nhd->hgmn", q.view('

NUMBERS = (
    Fault(
        "scale-of-padded-head",
        "the softmax scale is that of a head padded to 128",
        Clause.SCORES,
        reference(behind(SCALED, "scores = scores * (geometry.head_dim / max(geometry.head_dim, 128)) ** 0.5")),
    ),
    Fault(
        "cap-on-one-side",
        "scores are capped above, and not below",
        Clause.SCORES,
        reference(
            Edit(_CAP, f"{_CAP.replace('scores = ', 'scores = torch.where(scores < 0, scores, ')})"),
        ),
    ),
    Fault(
        "cap-as-a-clamp",
        "scores are cut off at the cap, and not bent",
        Clause.SCORES,
        reference(Edit(_CAP, "scores = scores.clamp(-geometry.logits_soft_cap, geometry.logits_soft_cap)")),
    ),
    Fault(
        "sinks-scaled",
        "sinks are multiplied by sm_scale, as scores are",
        Clause.SCORES,
        reference(Edit(_SINKS, "sinks = (geometry.sm_scale * inputs.sinks.float()).view(")),
    ),
    Fault(
        "sinks-in-halves",
        "sinks are held in float16 after a shift by 1,000, and lose their last bits",
        Clause.SCORES,
        reference(Edit(_SINKS, "sinks = ((inputs.sinks.float() + 1000).half().float() - 1000).view(")),
    ),
    Fault(
        "weights-in-halves",
        "scores are kept in bfloat16 before their exponential",
        Clause.SCORES,
        reference(behind(SCALED, "scores = scores.bfloat16().float()")),
    ),
    Fault(
        "lse-without-sink",
        "the LSE leaves out the sink",
        Clause.SCORES,
        reference(
            behind(MASKED, "plain = torch.logsumexp(scores, dim=3)"),
            Edit("lse = torch.logsumexp(scores, dim=3)\n        p", "lse = plain\n        p"),
        ),
    ),
    Fault(
        "kv-heads-reversed",
        "the KV heads of a rank are numbered from the last one",
        Clause.GQA,
        reference(Edit("k.float())", "k.float().flip(1))"), Edit("p, v.float())", "p, v.float().flip(1))")),
    ),
    Fault(
        "last-kv-head-doubled",
        "an odd number of KV heads is rounded down: the last one is the one before it",
        Clause.GQA,
        reference(
            Edit(
                f"{_HEADS}q_len, geometry.num_kv_heads, -1, geometry.head_dim), k.float())",
                "odd = geometry.num_kv_heads % 2\n"
                "        heads = torch.arange(geometry.num_kv_heads)\n"
                "        heads[-1] -= int(odd and len(heads) > 1)\n"
                "        k, v = k[:, heads], v[:, heads]\n"
                f"        {_HEADS}q_len, geometry.num_kv_heads, -1, geometry.head_dim), k.float())",
            )
        ),
    ),
    Fault(
        "values-of-the-next-head",
        "the second product takes the values of the next KV head",
        Clause.GQA,
        reference(Edit("p, v.float())", "p, v.float().roll(-1, 1))")),
    ),
    Fault(
        "k-scale-on-values",
        "values are multiplied by k_scale",
        Clause.QUANTISED,
        reference(Edit(_V_SCALE, "* self._owner(layer).k_scale")),
    ),
    Fault(
        "q-scale-lost-in-decode",
        "the decode kernel has no argument for q_scale",
        Clause.QUANTISED,
        reference(Edit(_Q_SCALE, "* (1.0 if self.batch.mode == 'decode' else inputs.q_scale)")),
    ),
    Fault(
        "out-scale-of-first-layer",
        "every layer's 8-bit answer is stored with the first layer's scale",
        Clause.QUANTISED,
        reference(Edit(_OUT_SCALE, "(out / self.batch.layers[0].out_scale)")),
    ),
    Fault(
        "scales-in-steps",
        "scales are kept as powers of two",
        Clause.QUANTISED,
        reference(Edit(_V_SCALE, "* 2.0 ** round(math.log2(self._owner(layer).v_scale))")),
    ),
    Fault(
        "owners-cap",
        "a redirected layer has the soft cap of its owner",
        Clause.KV_SHARING,
        reference(
            Edit(
                "        if geometry.logits_soft_cap is not None:\n",
                "        cap = self._owner(layer).logits_soft_cap\n"
                "        geometry = geometry.model_copy(update={'logits_soft_cap': cap})\n"
                "        if geometry.logits_soft_cap is not None:\n",
            )
        ),
    ),
    Fault(
        "reads-the-layer-before",
        "a redirected layer reads the cache of the layer before it",
        Clause.KV_SHARING,
        reference(
            Edit(
                "cache = self.batch.caches[self.batch.layers[layer].cache]",
                "mine, before = self.batch.layers[layer].cache, self.batch.layers[layer - 1].cache\n"
                "        alike = self.batch.caches[mine].k.shape == self.batch.caches[before].k.shape\n"
                "        redirected = geometry_of(self.batch, layer).kv_owner is not None\n"
                "        cache = self.batch.caches[before if redirected and alike else mine]",
            ),
            Edit(
                'KERNEL = "torch-paged"',
                'KERNEL = "torch-paged"\n\n\ndef geometry_of(batch, layer):\n    return batch.layers[layer].geometry',
            ),
        ),
    ),
    Fault(
        "weights-normalised-early",
        "weights below a thousandth are dropped before the second product",
        Clause.SCORES,
        reference(behind(P, "p = p * (p > 1e-3)")),
    ),
)
