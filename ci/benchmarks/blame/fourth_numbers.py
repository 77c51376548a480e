"""Faults of the fourth set in numbers, memory, and between calls."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.source import Edit
from ci.benchmarks.blame.fault import GATHERED, MASKED, SCALED, Fault, P, behind, reference

_NAME = 'KERNEL = "torch-paged"'
_START = "        tables = block_tables_for(self.batch, layer)\n"
_SINKS = "sinks = inputs.sinks.float().view("
_SUMS = 'torch.einsum("hgmn,nhd->mhgd", p, v.float())'
_CAP = "torch.tanh(scores / geometry.logits_soft_cap)"
_V_SCALE = "* self._owner(layer).v_scale"
_PARTS = (
    'sum(torch.einsum("hgmn,nhd->mhgd", p[..., part], v.float()[part]) for part in (slice(0, {0}), slice({0}, None)))'
)

FOURTH_NUMBERS = (
    Fault(
        "cap-of-half",
        "the soft cap is half of what it should be",
        Clause.SCORES,
        reference(
            Edit(
                f"geometry.logits_soft_cap * {_CAP}",
                f"geometry.logits_soft_cap / 2 * {_CAP.replace('_cap)', '_cap * 2)')}",
            )
        ),
    ),
    Fault(
        "sinks-negated",
        "sinks are subtracted in the exponent",
        Clause.SCORES,
        reference(Edit(_SINKS, "sinks = (-inputs.sinks.float()).view(")),
    ),
    Fault(
        "sum-before-the-mask",
        "weights are divided by a sum that has one key of score zero for each hidden one",
        Clause.SCORES,
        reference(
            behind(
                P,
                "lost = hidden.sum(-1).float()\n"
                "        p = p / (1 + lost * torch.exp(-lse).nan_to_num(0.0, 0.0, 0.0)).clamp_max(1e30)[..., None]",
            )
        ),
    ),
    Fault(
        "scale-by-padded-width",
        "the softmax scale is that of a head of the next power of two",
        Clause.SCORES,
        reference(
            behind(
                SCALED,
                "scores = scores * (geometry.head_dim / (1 << (geometry.head_dim - 1).bit_length())) ** 0.5",
            )
        ),
    ),
    Fault(
        "last-dims-lost",
        "the last eight numbers of a head's answer stay zero",
        Clause.SCORES,
        reference(Edit(_SUMS, f"({_SUMS} * (torch.arange(v.shape[2]) < v.shape[2] - 8))")),
    ),
    Fault(
        "lse-of-two-keys-more",
        "the LSE has log(2) added",
        Clause.SCORES,
        reference(Edit("lse.flatten(0, 1)", "(lse + math.log(2)).flatten(0, 1)")),
    ),
    Fault(
        "heads-of-two-groups",
        "pairs of KV heads share the first one's keys",
        Clause.GQA,
        reference(behind(GATHERED, "k = k[:, torch.arange(k.shape[1]) // 2 * 2]")),
    ),
    Fault(
        "first-and-last-head-swapped",
        "the first and the last KV head change places",
        Clause.GQA,
        reference(
            behind(
                GATHERED,
                "order = torch.arange(k.shape[1])\n"
                "        order[0], order[-1] = k.shape[1] - 1, 0\n"
                "        k, v = k[:, order], v[:, order]",
            )
        ),
    ),
    Fault(
        "v-scale-in-decode-alone",
        "v_scale is an argument of the decode kernel alone",
        Clause.QUANTISED,
        reference(Edit(_V_SCALE, "* (self._owner(layer).v_scale if self.batch.mode == 'decode' else 1.0)")),
    ),
    Fault(
        "k-scale-for-both",
        "the answer is multiplied by k_scale, too",
        Clause.QUANTISED,
        reference(Edit(_V_SCALE, "* self._owner(layer).v_scale * self._owner(layer).k_scale")),
    ),
    Fault(
        "head-scales-of-keys-for-values",
        "values are multiplied by the scales of their heads' keys",
        Clause.QUANTISED,
        reference(Edit("_by_head(v, cache.v_scales)", "_by_head(v, cache.k_scales)")),
    ),
    Fault(
        "q-scale-of-answers",
        "queries are multiplied by out_scale",
        Clause.QUANTISED,
        reference(Edit("* inputs.q_scale", "* (geometry.out_scale if inputs.q.element_size() == 1 else 1.0)")),
    ),
    Fault(
        "own-keys",
        "a redirected layer reads its own keys and its owner's values",
        Clause.KV_SHARING,
        reference(
            behind(
                GATHERED,
                "mine = self.batch.caches[layer].k if geometry.kv_owner is not None else None\n"
                "        if mine is not None and mine.shape == self._caches(layer)[0].shape:\n"
                "            k = self._gather(mine, table, first_key, kv_len)",
            )
        ),
    ),
    Fault(
        "redirected-own-v-scale",
        "a redirected layer scales its owner's values by its own v_scale",
        Clause.KV_SHARING,
        reference(Edit(_V_SCALE, "* geometry.v_scale")),
    ),
    Fault(
        "keys-of-masked-slots",
        "scores of the rest of the last page are summed and multiplied by zero",
        Clause.DEAD_SLOTS,
        reference(
            behind(
                MASKED,
                "rest = -kv_len % self.batch.page_size\n"
                "        tail = self._gather(self._caches(layer)[0], table, kv_len, kv_len + rest).float()\n"
                "        scores = scores + tail.sum() * 0.0",
            )
        ),
    ),
    Fault(
        "order-by-request-count",
        "batches of more than two requests are summed in two parts",
        Clause.INDEPENDENCE,
        reference(Edit(_SUMS, f"({_PARTS.format('3 * (len(self.batch.q_lens) > 2)')})")),
    ),
    Fault(
        "order-by-highest-page",
        "a request whose last page has a higher id than its first is summed in two parts",
        Clause.RELABELLING,
        reference(
            Edit(
                _SUMS,
                f"({_PARTS.format('3 * int(table[0] < table[(kv_len - 1) // self.batch.page_size])')})",
            )
        ),
    ),
    Fault(
        "keys-as-hnd",
        "keys are read as HND in both layouts",
        Clause.LAYOUT,
        reference(
            Edit(
                'by_token = cache if self.batch.kv_layout == "NHD" else cache.transpose(1, 2)',
                'by_token = cache if self.batch.kv_layout == "NHD" else cache.transpose(1, 2)\n'
                "        is_k = any(cache is one.k for one in self.batch.caches)\n"
                "        if is_k and self.batch.kv_layout == 'NHD':\n"
                "            pages, slots, heads, dim = cache.shape\n"
                "            by_token = cache.reshape(pages, heads, slots, dim).transpose(1, 2)",
            )
        ),
    ),
    Fault(
        "query-turned-where-it-lies",
        "the numbers of a query are turned over where they lie, and turned back for the product",
        Clause.READ_ONLY,
        reference(
            Edit(
                _START,
                f"{_START}"
                "        whole = self.batch.layers[layer].q\n"
                "        whole.copy_(whole.float().flip(2).to(whole.dtype))\n",
            ),
            Edit("q = inputs.q[rows].float()", "q = inputs.q[rows].float().flip(2)"),
        ),
    ),
    Fault(
        "every-third-call",
        "every third call sums in another order",
        Clause.DETERMINISM,
        reference(
            Edit(_NAME, f"{_NAME}\n_CALLS = [0]"),
            Edit(_START, f"{_START}        _CALLS[0] += 1\n"),
            Edit(_SUMS, f"({_PARTS.format('3 * (_CALLS[0] % 3 == 0)')})"),
        ),
    ),
)
