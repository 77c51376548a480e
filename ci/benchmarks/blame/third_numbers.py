"""Faults of the third set in numbers, memory, and between calls."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.source import Edit
from ci.benchmarks.blame.fault import GATHERED, MASKED, SCALED, Fault, P, behind, reference

_NAME = 'KERNEL = "torch-paged"'
_START = "        tables = block_tables_for(self.batch, layer)\n"
_SINKS = "sinks = inputs.sinks.float().view("
_SUMS = 'torch.einsum("hgmn,nhd->mhgd", p, v.float())'
_EMPTY = "return q.new_zeros((*q.shape[:2], geometry.value_dim)), q.new_full(q.shape[:2], -math.inf)"
_TURNED = 'by_token = cache if self.batch.kv_layout == "NHD" else cache.transpose(1, 2)'
_V_SCALE = "* self._owner(layer).v_scale"
_PARTS = (
    'sum(torch.einsum("hgmn,nhd->mhgd", p[..., part], v.float()[part]) for part in (slice(0, {0}), slice({0}, None)))'
)

THIRD_NUMBERS = (
    Fault(
        "weights-in-eight-bits",
        "weights are rounded to e4m3 as they are, and the profile says float32",
        Clause.SCORES,
        reference(behind(P, "p = p.to(torch.float8_e4m3fn).float()")),
    ),
    Fault(
        "sinks-by-rank-in-group",
        "a sink is found by a query head's number in its group",
        Clause.SCORES,
        reference(
            Edit(
                _SINKS,
                "group = len(inputs.sinks) // geometry.num_kv_heads\n"
                "            sinks = inputs.sinks[torch.arange(len(inputs.sinks)) % group].float().view(",
            )
        ),
    ),
    Fault(
        "sinks-in-fours",
        "sinks are loaded four at a time: the heads of a remainder have none",
        Clause.SCORES,
        reference(
            Edit(
                _SINKS,
                "count = len(inputs.sinks)\n"
                "            lost = torch.arange(count) >= max(1, count // 4 * 4)\n"
                "            sinks = inputs.sinks.float().masked_fill(lost, -math.inf).view(",
            )
        ),
    ),
    Fault(
        "cap-not-given-back",
        "scores stay between -1 and 1 behind the tanh of the cap",
        Clause.SCORES,
        reference(
            Edit(
                "scores = geometry.logits_soft_cap * torch.tanh(scores / geometry.logits_soft_cap)",
                "scores = torch.tanh(scores / geometry.logits_soft_cap)",
            )
        ),
    ),
    Fault(
        "exponential-of-second-degree",
        "the exponential is a polynomial whose relative error is 2e-3",
        Clause.SCORES,
        reference(behind(P, "p = p * (1 + 2e-3 * torch.cos(scores[..., : k.shape[0]].clamp(-80, 80) * 9))")),
    ),
    Fault(
        "splits-averaged",
        "from 32 keys on they are split in two, and the two answers are averaged",
        Clause.SCORES,
        reference(
            behind(
                P,
                "half = k.shape[0] // 2 if k.shape[0] >= 32 else 0\n"
                "        masses = p[..., :half].sum(3, keepdim=True), p[..., half:].sum(3, keepdim=True)\n"
                "        both = ((masses[0] > 0) & (masses[1] > 0)) if half else torch.zeros(1, dtype=torch.bool)\n"
                "        shares = torch.cat([p[..., :half] / masses[0], p[..., half:] / masses[1]], dim=3) / 2\n"
                "        p = torch.where(both, shares, p)",
            )
        ),
    ),
    Fault(
        "lse-is-the-maximum",
        "the LSE is the largest score",
        Clause.SCORES,
        reference(Edit("lse = torch.logsumexp(scores, dim=3)", "lse = scores.amax(dim=3)")),
    ),
    Fault(
        "group-of-a-smaller-power",
        "groups are rounded down to a power of two",
        Clause.GQA,
        reference(
            Edit(
                _SUMS,
                "self._grouped(p, v.float())",
            ),
            Edit(
                "    def _owner(self, layer: int)",
                "    def _grouped(self, p, v):\n"
                "        heads, group = p.shape[:2]\n"
                "        step = 1 << (group.bit_length() - 1)\n"
                "        mapped = (torch.arange(heads * group) // step).clamp_max(heads - 1).view(heads, group)\n"
                "        return torch.einsum('hgmn,nhgd->mhgd', p, v[:, mapped])\n\n"
                "    def _owner(self, layer: int)",
            ),
        ),
    ),
    Fault(
        "values-of-the-first-head",
        "the second product takes KV head 0 for all",
        Clause.GQA,
        reference(Edit(_SUMS, "torch.einsum('hgmn,nd->mhgd', p, v[:, 0].float())")),
    ),
    Fault(
        "own-k-scale-once-more",
        "a redirected layer applies its own k_scale on top of its owner's",
        Clause.KV_SHARING,
        reference(
            Edit(
                SCALED,
                f"{SCALED}        scores = scores * (geometry.k_scale if geometry.kv_owner is not None else 1.0)\n",
            )
        ),
    ),
    Fault(
        "own-values",
        "a redirected layer reads its owner's keys and its own values",
        Clause.KV_SHARING,
        reference(
            behind(
                GATHERED,
                "mine = self.batch.caches[layer].v if geometry.kv_owner is not None else None\n"
                "        if mine is not None and mine.shape == self._caches(layer)[1].shape:\n"
                "            v = self._gather(mine, table, first_key, kv_len)",
            )
        ),
    ),
    Fault(
        "v-scale-lost-from-48-keys",
        "the kernel for 48 keys or more stores its answer without v_scale",
        Clause.QUANTISED,
        reference(Edit(_V_SCALE, "* (self._owner(layer).v_scale if kv_len < 48 else 1.0)")),
    ),
    Fault(
        "k-scale-in-bfloat16",
        "k_scale is held in bfloat16",
        Clause.QUANTISED,
        reference(
            Edit(
                "(geometry.sm_scale * self._owner(layer).k_scale)",
                "(geometry.sm_scale * float(torch.tensor(self._owner(layer).k_scale).bfloat16()))",
            )
        ),
    ),
    Fault(
        "out-scale-of-owner",
        "a redirected layer's 8-bit answer is stored with its owner's scale",
        Clause.QUANTISED,
        reference(
            Edit(
                "(out / inputs.out_scale)",
                "(out / (self._owner(layer).out_scale if inputs.out_dtype.itemsize == 1 else 1.0))",
            )
        ),
    ),
    Fault(
        "head-scales-reversed",
        "the scales of KV heads are read from the last one on",
        Clause.QUANTISED,
        reference(
            Edit(
                "_by_head(k, cache.k_scales)", "_by_head(k, None if cache.k_scales is None else cache.k_scales.flip(0))"
            )
        ),
    ),
    Fault(
        "maximum-over-the-whole-page",
        "the maximum is taken over all slots of the last page, the dead ones, too",
        Clause.DEAD_SLOTS,
        reference(
            behind(
                MASKED,
                "rest = -kv_len % self.batch.page_size\n"
                "        tail = self._gather(self._caches(layer)[0], table, kv_len, kv_len + rest).float()\n"
                "        most = tail.abs().amax() if rest else tail.new_zeros(())\n"
                "        scores = scores + (most - most)",
            )
        ),
    ),
    Fault(
        "lengths-advanced",
        "a run adds its token to the lengths, where they lie",
        Clause.READ_ONLY,
        reference(Edit("        return KERNEL\n", "        self.batch.seq_lens.add_(1)\n        return KERNEL\n")),
    ),
    Fault(
        "empty-row-sees-the-null-page",
        "a row over no key has the first value of page 0",
        Clause.EMPTY_ROWS,
        reference(
            Edit(
                _EMPTY,
                "first = self._caches(layer)[1][:1].transpose(1, 2)[0, :, 0] if self.batch.kv_layout == 'NHD' else"
                " self._caches(layer)[1][0, :, 0]\n"
                "            out = first.float().reshape(-1)[: geometry.value_dim].nan_to_num(1.0, 1.0, 1.0) + 1.0\n"
                "            return out.expand(*q.shape[:2], -1), q.new_full(q.shape[:2], -math.inf)",
            )
        ),
    ),
    Fault(
        "order-by-the-longest",
        "requests shorter than half the longest are summed in two parts",
        Clause.INDEPENDENCE,
        reference(Edit(_SUMS, f"({_PARTS.format('3 * (2 * kv_len < max(self.batch.kv_lens))')})")),
    ),
    Fault(
        "values-without-their-padding",
        "values are read as if pages followed each other without padding",
        Clause.LAYOUT,
        reference(
            Edit(
                _TURNED,
                "if any(cache is one.v for one in self.batch.caches):\n"
                "            cache = cache.as_strided(cache.shape, torch.empty(cache.shape, device='meta').stride())\n"
                f"        {_TURNED}",
            )
        ),
    ),
    Fault(
        "first-call-in-another-order",
        "the first call of a batch runs before its kernel is tuned, and sums in two parts",
        Clause.DETERMINISM,
        reference(
            Edit(_NAME, f"{_NAME}\n_SEEN = {{}}"),
            Edit(
                _START,
                f"{_START}"
                "        calls = _SEEN.setdefault((id(self.batch), layer), [self.batch, 0])\n"
                "        calls[1] += 1\n",
            ),
            Edit(_SUMS, f"({_PARTS.format('3 * (_SEEN[(id(self.batch), layer)][1] == 1)')})"),
        ),
    ),
    Fault(
        "pages-of-one-token-unbuilt",
        "pages of one token are declared, and not built",
        Clause.REFUSAL,
        reference(
            Edit(
                _START,
                f"{_START}"
                "        if self.batch.page_size == 1:\n"
                "            raise RuntimeError('page_size 1 is not built')\n",
            )
        ),
    ),
)
