"""Batches: their requests, host hints, metadata that outlives a call (clauses 1, 2, 7, 11 to 13, 15, 17 and 19)."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import RECLAIMED, SLIDING, ask
from attnconf.mutants.source import Edit, Edited, edited

_OUT = 'out = torch.einsum("hgmn,nhd->mhgd", p, v.float()).flatten(1, 2)'
_NAME = 'KERNEL = "torch-paged"'
_EMPTY = "return q.new_zeros((*q.shape[:2], geometry.value_dim)), q.new_full(q.shape[:2], -math.inf)"


def _split(count: str) -> Edited:
    """Return the reference that sums over its keys in ``count`` parts: right, but the count changes bits."""
    parts = f"zip(p.tensor_split({count}, 3), v.float().tensor_split({count}), strict=True)"
    summed = f'out = sum(torch.einsum("hgmn,nhd->mhgd", *part) for part in {parts}).flatten(1, 2)'
    return edited("reference", Edit(_OUT, summed))


MUTANTS = (
    Mutant(
        id="splits-by-batch-size",
        summary="the number of splits depends on how many requests there are",
        clause=Clause.INDEPENDENCE,
        make=_split("len(self.batch.q_lens)"),
        proof=ask("decode"),
    ),
    Mutant(
        id="splits-by-hint",
        summary="the number of splits comes from max_seq_len",
        bug="flashinfer-ai/flashinfer#4647",
        clause=Clause.HOST_HINTS,
        make=_split("1 + self.batch.max_seq_len // 64"),
        proof=ask("decode"),
    ),
    Mutant(
        id="splits-by-page",
        summary="keys are summed in the order of their page ids",
        clause=Clause.RELABELLING,
        make=_split("1 + int(table[max(0, kv_len - 1) // self.batch.page_size]) % 3"),
        proof=ask("decode"),
    ),
    Mutant(
        id="splits-by-live-pages",
        summary="null pages are skipped, and move the borders between the parts that are summed",
        clause=Clause.RECLAIMED_PAGES,
        make=_split("1 + int((table[: -(-kv_len // self.batch.page_size)] == 0).any())"),
        proof=ask("decode", SLIDING, paging=RECLAIMED),
    ),
    Mutant(
        id="splits-by-row-parity",
        summary="odd rows of the batch are summed in two parts",
        clause=Clause.INDEPENDENCE,
        make=edited(
            "reference",
            Edit(
                "self._attend(layer, tables[row], rows, kv_len)\n",
                "self._attend(layer, tables[row], rows, kv_len, 1 + row % 2)\n",
            ),
            Edit("rows: slice, kv_len: int) ->", "rows: slice, kv_len: int, count: int) ->"),
            *_split("count").edits,
        ),
        proof=ask("decode"),
    ),
    Mutant(
        id="sum-in-any-order",
        summary="partial sums are added in the order in which they arrive",
        bug="flashinfer-ai/flashinfer#1559",
        clause=Clause.DETERMINISM,
        make=edited(
            "reference",
            Edit(_NAME, f"{_NAME}\n_CALLS = []"),
            Edit("start = 0\n", "start = 0\n        _CALLS.append(layer)\n"),
            *_split("1 + len(_CALLS) % 2").edits,
        ),
        proof=ask("decode"),
    ),
    Mutant(
        id="hint-is-a-length",
        summary="with one request max_q_len is taken for its q_len",
        bug="flashinfer-ai/flashinfer#1912",
        clause=Clause.HOST_HINTS,
        make=edited(
            "reference",
            Edit(
                "positions = torch.arange(kv_len - q_len, kv_len,",
                "shift = (self.batch.max_q_len - q_len) * (sum(n > 0 for n in self.batch.q_lens) == "
                "1)\n        positions = torch.arange(kv_len - q_len - shift, kv_len - shift,",
            ),
        ),
        proof=ask("extend", requests=({"prefix_len": 45, "new_tokens": 7},)),
    ),
    Mutant(
        id="positions-from-longest",
        summary="rows are numbered by the longest request of the batch: a short one in its shadow sees too much",
        clause=Clause.CAUSAL,
        make=edited("reference", Edit("(keys > positions)", "(keys > positions + self.batch.max_q_len - q_len)")),
        proof=ask("extend"),
    ),
    Mutant(
        id="padding-shifts-rows",
        summary="a request without query tokens takes a row of the output",
        clause=Clause.EMPTY_ROWS,
        make=edited(
            "reference",
            Edit("if q_len == 0:\n", "if q_len == 0:\n                start += 1\n"),
            Edit("rows = slice(start, start + q_len)", "rows = torch.arange(start, start + q_len) % len(out)"),
        ),
        proof=ask(
            "mixed",
            requests=({"prefix_len": 50}, {"prefix_len": 9, "new_tokens": 0}, {"prefix_len": 33, "new_tokens": 6}),
        ),
    ),
    Mutant(
        id="empty-row-not-stored",
        summary="a row over no key returns before it stores its output",
        bug="vllm-project/vllm#37442",
        catalogue=("M13",),
        clause=Clause.EMPTY_ROWS,
        make=edited(
            "reference",
            Edit(
                "if q_len == 0:\n                continue\n            rows = slice(start, start + "
                "q_len)\n            start += q_len\n",
                "rows = slice(start, start + q_len)\n            start += q_len\n            if "
                "q_len == 0 or kv_len == 0:\n                continue\n",
            ),
        ),
        proof=ask("decode", padding_rows=2),
    ),
    Mutant(
        id="empty-row-is-nan",
        summary="a row over no key divides 0 by 0",
        bug="vllm-project/vllm#57094",
        catalogue=("M13",),
        clause=Clause.EMPTY_ROWS,
        make=edited("reference", Edit(_EMPTY, _EMPTY.replace("value_dim))", "value_dim)) / 0.0"))),
        proof=ask("decode", padding_rows=2),
    ),
    Mutant(
        id="empty-row-lse",
        summary="a row over no key has LSE 0: a phantom key of weight 1",
        bug="flashinfer-ai/flashinfer#27",
        clause=Clause.EMPTY_ROWS,
        make=edited("reference", Edit("-math.inf)\n        k, v", "0.0)\n        k, v")),
        proof=ask("decode", padding_rows=2),
    ),
    Mutant(
        id="table-kept-by-shape",
        summary="metadata is cached by shape: another table of the same shape is not looked at",
        bug="vllm-project/vllm-ascend#8508",
        catalogue=("M31",),
        clause=Clause.RELABELLING,
        make=edited(
            "reference",
            Edit(
                "return _Run(batch)",
                "kept = self.__dict__.setdefault((batch.block_tables.shape, batch.kv_lens), "
                "batch.block_tables)\n        return _Run(replace(batch, block_tables=kept))",
            ),
            Edit("from dataclasses import dataclass", "from dataclasses import dataclass, replace"),
        ),
        proof=ask("decode"),
    ),
    Mutant(
        id="window-kept-by-shape",
        summary="the first layer's window is compiled into the kernel of every layer of its shape",
        catalogue=("M31",),
        clause=Clause.WINDOW,
        make=edited(
            "reference",
            Edit(
                "if geometry.window_left >= 0 else kv_len",
                "if geometry.window_left >= 0 else kv_len\n        first = next(one.geometry for one "
                "in self.batch.layers if one.geometry.head_dim == geometry.head_dim)\n        window "
                "= first.window_left if min(first.window_left, geometry.window_left) >= 0 else window",
            ),
        ),
        proof=ask("decode", SLIDING, SLIDING.model_copy(update={"window_left": 9})),
    ),
    Mutant(
        id="decode-path-window",
        summary="the kernel that serves one-token batches keeps one key less of a window",
        bug="vllm-project/vllm#3385",
        clause=Clause.WINDOW,
        make=edited(
            "reference",
            Edit("(keys < positions - window)", "(keys < positions - window + (self.batch.mode == 'decode'))"),
        ),
        proof=ask("extend", SLIDING),
    ),
    Mutant(
        id="decode-path-coarse",
        summary="the kernel that serves one-token batches keeps weights in 8 bits, and says nothing of it",
        clause=Clause.CONSISTENCY,
        make=edited(
            "reference",
            Edit(
                "p = torch.softmax(scores, dim=3)[..., : k.shape[0]]\n",
                "p = torch.softmax(scores, dim=3)[..., : k.shape[0]]\n"
                "        if self.batch.mode == 'decode':\n            p = p.to(torch.float8_e4m3fn).float()\n",
            ),
        ),
        proof=ask("extend"),
    ),
    Mutant(
        id="causal-off-without-prefix",
        summary="a request without cached tokens is not causal",
        clause=Clause.CAUSAL,
        make=edited("reference", Edit("(keys > positions)", "((keys > positions) & (q_len < kv_len))")),
        proof=ask("mixed", requests=({"prefix_len": 50}, {"prefix_len": 0, "new_tokens": 6})),
    ),
)
