"""Faults of the second set in numbers, memory, and between calls."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.source import Edit
from ci.benchmarks.blame.fault import HIDDEN, MASKED, SCALED, Fault, P, behind, reference

_NAME = 'KERNEL = "torch-paged"'
_START = "        tables = block_tables_for(self.batch, layer)\n"
_SINKS = "sinks = inputs.sinks.float().view("
_CAP = "torch.tanh(scores / geometry.logits_soft_cap)"
_SUMS = 'torch.einsum("hgmn,nhd->mhgd", p, v.float())'
_MADE = "return _Run(batch)"
_Q = "q = inputs.q[rows].float() * inputs.q_scale\n"

LATER_NUMBERS = (
    Fault(
        "scale-behind-the-cap",
        "sm_scale is applied behind the soft cap",
        Clause.SCORES,
        reference(
            Edit(
                _CAP,
                "torch.tanh(scores / geometry.sm_scale / geometry.logits_soft_cap) * geometry.sm_scale",
            )
        ),
    ),
    Fault(
        "sinks-reversed",
        "sinks are read from the last head on",
        Clause.SCORES,
        reference(Edit(_SINKS, "sinks = inputs.sinks.float().flip(0).view(")),
    ),
    Fault(
        "one-more-in-the-sum",
        "each row's sum of weights has one more, as of a key of score 0",
        Clause.SCORES,
        reference(
            behind(
                MASKED,
                "scores = torch.cat([scores, scores.new_zeros((*scores.shape[:3], 1))], dim=3)",
            ),
        ),
    ),
    Fault(
        "log2-twice",
        "scores carry the factor log2(e) although exp is natural",
        Clause.SCORES,
        reference(behind(SCALED, "scores = scores * 1.4426950408889634")),
    ),
    Fault(
        "cap-linear-in-the-middle",
        "tanh is taken for its argument up to one",
        Clause.SCORES,
        reference(Edit(_CAP, "(scores / geometry.logits_soft_cap).clamp(-1, 1)")),
    ),
    Fault(
        "lse-halved-in-decode",
        "the LSE of decode is in base two, that of other modes natural",
        Clause.SCORES,
        reference(
            Edit("lse.flatten(0, 1)", "(lse / (math.log(2) if self.batch.mode == 'decode' else 1)).flatten(0, 1)")
        ),
    ),
    Fault(
        "odd-heads-read-the-first",
        "the odd query heads read KV head 0",
        Clause.GQA,
        reference(
            Edit(
                _SUMS,
                f"self._odd({_SUMS}, torch.einsum('hgmn,nd->mhgd', p, v[:, 0].float()))",
            ),
            Edit(
                "    def _owner(self, layer: int)",
                "    def _odd(self, right, wrong):\n"
                "        flat, other = right.flatten(1, 2), wrong.flatten(1, 2)\n"
                "        flat[:, 1::2] = other[:, 1::2]\n"
                "        return flat.view(right.shape)\n\n"
                "    def _owner(self, layer: int)",
            ),
        ),
    ),
    Fault(
        "wide-groups-in-turn",
        "in groups of more than two query heads these are dealt to KV heads in turn",
        Clause.GQA,
        reference(
            behind(
                _Q,
                "turned = q.shape[1] > 2 * geometry.num_kv_heads\n"
                "        q = q.view(len(q), -1, geometry.num_kv_heads, geometry.head_dim).transpose(1, 2)"
                ".reshape(q.shape) if turned else q",
            ),
            Edit(
                "return (out / inputs.out_scale)",
                "out = out.view(q_len, geometry.num_kv_heads, -1, out.shape[2]).transpose(1, 2).reshape(out.shape)"
                " if turned else out\n"
                "        return (out / inputs.out_scale)",
            ),
        ),
    ),
    Fault(
        "v-scale-twice",
        "v_scale is applied to values and to the answer",
        Clause.QUANTISED,
        reference(Edit("* self._owner(layer).v_scale", "* self._owner(layer).v_scale ** 2")),
    ),
    Fault(
        "k-scale-of-last-layer",
        "every layer has the last one's k_scale",
        Clause.QUANTISED,
        reference(
            Edit(
                "(geometry.sm_scale * self._owner(layer).k_scale)",
                "(geometry.sm_scale * self.batch.layers[-1].geometry.k_scale)",
            )
        ),
    ),
    Fault(
        "out-scale-lost-behind-a-prefix",
        "the answer of requests with a prefix is stored without its scale",
        Clause.QUANTISED,
        reference(Edit("(out / inputs.out_scale)", "(out / (inputs.out_scale if q_len == kv_len else 1.0))")),
    ),
    Fault(
        "owners-sinks",
        "a redirected layer has the sinks of its owner",
        Clause.KV_SHARING,
        reference(
            Edit(
                _SINKS,
                "theirs = self.batch.layers[inputs.cache].sinks\n"
                "            fits = theirs is not None and len(theirs) == len(inputs.sinks)\n"
                "            sinks = (theirs if fits else inputs.sinks).float().view(",
            )
        ),
    ),
    Fault(
        "owners-window-in-decode",
        "a redirected layer has the window of its owner in decode",
        Clause.KV_SHARING,
        reference(
            behind(
                HIDDEN,
                "theirs = self._owner(layer).window_left\n"
                "        one = q_len == 1 and geometry.window_left >= 0 and theirs >= 0\n"
                "        hidden = hidden | ((keys < positions - theirs) & one)",
            )
        ),
    ),
    Fault(
        "unused-columns-cleared",
        "unused columns of the table are set to the null page where they lie",
        Clause.READ_ONLY,
        reference(
            Edit(
                _MADE,
                "used = (batch.seq_lens.long() + batch.page_size - 1) // batch.page_size\n"
                "        columns = torch.arange(batch.block_tables.shape[1])\n"
                "        batch.block_tables.masked_fill_(columns[None] >= used[:, None], 0)\n"
                f"        {_MADE}",
            )
        ),
    ),
    Fault(
        "empty-rows-repeat",
        "a row over no key keeps the answer of the row before it",
        Clause.EMPTY_ROWS,
        reference(
            Edit(
                "            out[rows] = row_out\n",
                "            out[rows] = row_out if kv_len or not rows.start else out[rows.start - 1]\n",
            )
        ),
    ),
    Fault(
        "order-by-place-in-batch",
        "requests behind the second one of a batch are summed from their last key on",
        Clause.INDEPENDENCE,
        reference(behind(P, "p, v = (p.flip(3), v.flip(0)) if rows.start > 1 else (p, v)")),
    ),
    Fault(
        "cap-kept-by-shape",
        "the first soft cap of a shape is compiled into its kernel",
        Clause.DETERMINISM,
        reference(
            Edit(_NAME, f"{_NAME}\n_CAPS = {{}}"),
            Edit(
                "        if geometry.logits_soft_cap is not None:\n",
                "        key = (inputs.q.shape, self.batch.kv_lens, layer, geometry.window_left)\n"
                "        if geometry.logits_soft_cap is not None:\n"
                "            first = _CAPS.setdefault(key, geometry.logits_soft_cap)\n"
                "            geometry = geometry.model_copy(update={'logits_soft_cap': first})\n",
            ),
        ),
    ),
    Fault(
        "order-by-context-length",
        "a context length of 100,000 or more picks a kernel that sums from the last key on",
        Clause.HOST_HINTS,
        reference(
            Edit(
                P,
                f"{P}        if self.batch.max_seq_len >= 100_000:\n            p, v = p.flip(3), v.flip(0)\n",
            )
        ),
    ),
    Fault(
        "cap-with-sinks-crashes",
        "a kernel with a soft cap and sinks was never built",
        Clause.REFUSAL,
        reference(
            Edit(
                _START,
                f"{_START}"
                "        geometry = self.batch.layers[layer].geometry\n"
                "        if geometry.sinks and geometry.logits_soft_cap:\n"
                "            raise RuntimeError('no such kernel')\n",
            )
        ),
    ),
)
