"""Our Triton kernels with one changed expression: tiles, splits, merges and LSE."""

from __future__ import annotations

from attnconf.cases.request import Request
from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import HOSTILE, SINKS, SLIDING, ask
from attnconf.mutants.source import Edit, Edited, edited

_KERNEL, _LAUNCH = "triton.kernel", "triton.launch"
SMALLER = (
    Edit("max_splits=8, min_split=768", "max_splits=8, min_split=32", "triton.tuning"),
    Edit("return 256 if block_d <= 128 else 128", "return 32", "triton.tuning"),
)
"""Right edits, which give the interpreter the small tiles (32 keys) of compiled kernels: short requests get splits."""

LONG = (Request(prefix_len=150), Request(prefix_len=37))


def _kernel(*edits: Edit) -> Edited:
    return edited("triton", *SMALLER, *edits)


MUTANTS = (
    Mutant(
        id="merge-natural-exp",
        summary="splits are merged with exp of statistics in units of log 2",
        bug="sgl-project/sglang#35045",
        catalogue=("M28",),
        clause=Clause.SCORES,
        make=_kernel(
            Edit("added = tl.exp2(part_m - largest)", "added = tl.exp(part_m - largest)", _KERNEL),
            Edit("kept = tl.exp2(m - largest)\n        added", "kept = tl.exp(m - largest)\n        added", _KERNEL),
        ),
        proof=ask("decode", requests=LONG),
    ),
    Mutant(
        id="lse-in-base-two",
        summary="the LSE is log2, and declared natural",
        bug="vllm-project/vllm#43919",
        catalogue=("M28",),
        clause=Clause.SCORES,
        make=_kernel(Edit("(largest + tl.log2(total)) * LN_2", "largest + tl.log2(total)", _KERNEL)),
        proof=ask("decode", requests=LONG),
    ),
    Mutant(
        id="lse-of-last-split",
        summary="the LSE is that of the last split alone",
        bug="flashinfer-ai/flashinfer#58",
        clause=Clause.SCORES,
        make=_kernel(
            Edit("    for split in range(splits):", "    last = 0.0\n    for split in range(splits):", _KERNEL),
            Edit(
                "        m = largest\n    store_rows(",
                "        m = largest\n        last = part_m + tl.log2(part_total)\n    store_rows(",
                _KERNEL,
            ),
            Edit(
                "out_token, out_head, out_dim, lse_token, lse_head, v_scale, VALUE_DIM, SINKS, LSE, "
                "OUT_FORMAT,\n    )  # fmt: skip\n",
                "out_token, out_head, out_dim, lse_token, lse_head, v_scale, VALUE_DIM, SINKS, LSE, "
                "OUT_FORMAT,\n    )  # fmt: skip\n    if LSE:\n        tl.store(lse + (token * "
                "lse_token + head * lse_head), last * LN_2, mask=mask)\n",
                _KERNEL,
            ),
        ),
        proof=ask("decode", requests=LONG),
    ),
    Mutant(
        id="merge-reads-empty-splits",
        summary="the merge visits as many splits as the longest request has: those that a short one never wrote, too",
        bug="vllm-project/vllm#47188",
        catalogue=("M25",),
        clause=Clause.DETERMINISM,
        make=_kernel(Edit("for split in range(splits):", "for split in range(num_splits):", _KERNEL)),
        proof=ask("decode", requests=({"prefix_len": 150}, {"prefix_len": 70})),
    ),
    Mutant(
        id="last-split-dropped",
        summary="the planner rounds the number of splits down: the keys of the last one are lost",
        bug="flashinfer-ai/flashinfer#728",
        clause=Clause.CAUSAL,
        make=_kernel(Edit("tl.maximum((keys + (width - 1)) // width, 1)", "tl.maximum(keys // width, 1)", _KERNEL)),
        proof=ask("decode", requests=LONG),
    ),
    Mutant(
        id="split-reads-its-neighbour",
        summary="a split is masked by the request's end, not by its own: keys behind it count twice",
        bug="flashinfer-ai/flashinfer#1206",
        clause=Clause.SCORES,
        make=_kernel(
            Edit("high = tl.minimum(high, low + width)", "high = tl.minimum(high, low + width + BLOCK_N)", _KERNEL)
        ),
        proof=ask("decode", requests=LONG),
    ),
    Mutant(
        id="partials-overlap",
        summary="the place of a partial result leaves the token out: requests overwrite each other's",
        bug="flashinfer-ai/flashinfer#3393",
        catalogue=("M27",),
        clause=Clause.INDEPENDENCE,
        make=_kernel(
            Edit(
                "place = (token * num_qo_heads + head) * num_splits + split",
                "place = (token * 0 + head) * num_splits + split",
                _KERNEL,
            ),
            Edit(
                "first_place = (token * num_qo_heads + head) * num_splits",
                "first_place = (token * 0 + head) * num_splits",
                _KERNEL,
            ),
        ),
        proof=ask("decode", requests=({"prefix_len": 150}, {"prefix_len": 170})),
    ),
    Mutant(
        id="sink-in-every-split",
        summary="each split starts its denominator with the sink",
        clause=Clause.SCORES,
        make=_kernel(
            Edit(
                "        tl.store(stats + place * 2 + 1, total, mask=mask)",
                "        if SINKS:\n            total = total + tl.exp2(tl.load(sinks + head, "
                "mask=mask, other=0.0) * LOG2_E - m)\n        tl.store(stats + place * 2 + 1, total, "
                "mask=mask)",
                _KERNEL,
            ),
        ),
        proof=ask("decode", SINKS, requests=LONG),
    ),
    Mutant(
        id="masked-tile-is-nan",
        summary="the running maximum starts at -inf: a row whose first tile is masked whole becomes NaN",
        bug="vllm-project/vllm#4405",
        clause=Clause.WINDOW,
        make=_kernel(Edit("LOWEST = tl.constexpr(-3.4028234663852886e38)", 'LOWEST = tl.constexpr(float("-inf"))')),
        proof=ask("extend", SLIDING, requests=({"prefix_len": 60, "new_tokens": 40},)),
    ),
    Mutant(
        id="rescale-forgotten",
        summary="the sums are not rescaled when a later tile raises the maximum",
        clause=Clause.SCORES,
        make=_kernel(Edit("acc=acc * kept[:, None]", "acc=acc")),
        proof=ask("extend", requests=({"prefix_len": 100, "new_tokens": 12},)),
    ),
    Mutant(
        id="tail-tile-loads-page-zero",
        summary="lanes behind the end load keys and values through entries of the table that are not theirs",
        bug="nod-ai/amd-shark-ai#665",
        catalogue=("M10",),
        clause=Clause.DEAD_SLOTS,
        make=_kernel(Edit("    mask = live[:, None]\n    if HEAD", "    mask = (n >= 0)[:, None]\n    if HEAD")),
        proof=ask("decode", poison=HOSTILE),
    ),
    Mutant(
        id="kernel-window-first-tile",
        summary="the window is masked per tile, not per query row",
        bug="flashinfer-ai/flashinfer#3864",
        clause=Clause.WINDOW,
        make=_kernel(Edit("(place[None, :] >= oldest[:, None])", "(n[None, :] >= first_key)")),
        proof=ask("verify", SLIDING),
    ),
    Mutant(
        id="group-of-power-of-two",
        summary="a block's rows are divided by the group size rounded up to a power of two",
        bug="flashinfer-ai/flashinfer#1148",
        catalogue=("M23",),
        clause=Clause.GQA,
        make=_kernel(
            Edit(
                "position = first_position + row_token",
                "position = first_position + row // (4 if GROUP == 3 else 8 if 4 < GROUP and GROUP < 8 else GROUP)",
                _KERNEL,
            )
        ),
        proof=ask("verify", SLIDING),
    ),
    Mutant(
        id="value-strides-of-keys",
        summary="values are read with the keys' strides",
        bug="vllm-project/vllm-xpu-kernels#258",
        catalogue=("M21",),
        clause=Clause.LAYOUT,
        make=_kernel(
            Edit(
                "v_offset = k_offset if SAME_STRIDES else page * v_page + slot * v_slot",
                "v_offset = page * (PAGE_SIZE * k_slot) + slot * k_slot",
            )
        ),
        proof=ask("decode"),
    ),
)
