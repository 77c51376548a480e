"""Keys and values of 4 bits, read with other numbers or other scales of blocks than they have (clause 18, mostly)."""

from __future__ import annotations

from attnconf.cases.case import Paging
from attnconf.cases.dtypes import FP8, NVFP4
from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import FULL, SCALED, SHARED, quantised
from attnconf.mutants.source import Edit, edited

_PACKED = {"kv_dtype": NVFP4}
_SERVED = Paging(page_size=16, layout="HND")
_EIGHT_BIT = SCALED.model_copy(update={"q_scale": 0.25, "out_scale": 0.02})
_FAINT = SCALED.model_copy(update={"v_scale": 128.0})
_BLOCKS = "(cache.k_block_scales, cache.v_block_scales)\n"

MUTANTS = (
    Mutant(
        id="nvfp4-nibbles-swapped",
        summary="the first number of a byte is taken from its high bits",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit("[pairs & 15, pairs >> 4]", "[pairs >> 4, pairs & 15]", "packed")),
        proof=quantised("decode", **_PACKED),
    ),
    Mutant(
        id="nvfp4-sign-lost",
        summary="the sign bit of numbers of 4 bits is masked off with the rest of the byte",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit("torch.where(codes > 7, -magnitude, magnitude)", "magnitude", "packed")),
        proof=quantised("extend", **_PACKED),
    ),
    Mutant(
        id="nvfp4-half-is-zero",
        summary="one half, the only subnormal number of 4 bits, is read as zero",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit("exponent - 1), mantissa / 2)", "exponent - 1), 0.0 * mantissa)", "packed")),
        proof=quantised("verify", **_PACKED),
    ),
    Mutant(
        id="nvfp4-scale-of-the-neighbour",
        summary="two blocks in a row take each other's scale",
        clause=Clause.QUANTISED,
        make=edited("triton", Edit("(place // 16 * block_step)", "((place // 16 ^ 1) * block_step)")),
        proof=quantised("decode", **_PACKED),
    ),
    Mutant(
        id="nvfp4-blocks-of-32",
        summary="a scale is taken for 32 numbers, as in MXFP4, not for 16",
        clause=Clause.QUANTISED,
        make=edited("triton", Edit("(place // 16 * block_step)", "(place // 32 * block_step)")),
        proof=quantised("extend", **_PACKED),
    ),
    Mutant(
        id="nvfp4-values-by-scales-of-keys",
        summary="values are read with the block scales of keys",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit(_BLOCKS, "(cache.k_block_scales, cache.k_block_scales)\n")),
        proof=quantised("mixed", **_PACKED),
    ),
    Mutant(
        id="nvfp4-scales-of-head-0",
        summary="the block scales of values are read at KV head 0 for all heads",
        clause=Clause.QUANTISED,
        make=edited("triton", Edit("v_blocks = v_blocks + kv_head * vb_head", "v_blocks = v_blocks", "triton.kernel")),
        proof=quantised("decode", **_PACKED),
    ),
    Mutant(
        id="nvfp4-scales-of-the-page-before",
        summary="the page of block scales is looked up one column before that of the numbers",
        clause=Clause.PAGING,
        make=edited(
            "triton",
            Edit(
                "    slot = n % PAGE_SIZE\n",
                "    slot = n % PAGE_SIZE\n"
                "    column = tl.maximum(n // PAGE_SIZE - 1, 0) * table_column\n"
                "    before = tl.load(table + column, mask=live, other=0).to(tl.int64)\n",
            ),
            Edit("mask, k_blocks, page, slot", "mask, k_blocks, before, slot"),
            Edit("mask, v_blocks, page, slot", "mask, v_blocks, before, slot"),
        ),
        proof=quantised("extend", **_PACKED),
    ),
    Mutant(
        id="nvfp4-scale-subnormals-are-zero",
        summary="block scales below the smallest normal number of e4m3 are read as zero",
        clause=Clause.QUANTISED,
        make=edited(
            "reference",
            Edit("block_scales.float()", "(block_scales.float() * (block_scales.float() >= 2.0**-6))", "packed"),
        ),
        proof=quantised("decode", _FAINT, **_PACKED),
    ),
    Mutant(
        id="nvfp4-global-scale-forgotten",
        summary="numbers count by the scales of their blocks alone, and not by the global scale",
        clause=Clause.QUANTISED,
        make=edited(
            "reference",
            Edit(
                "(geometry.sm_scale * self._owner(layer).k_scale)",
                "(geometry.sm_scale * (self._owner(layer).k_scale if cache.k_block_scales is None else 1.0))",
            ),
            Edit(
                "* self._owner(layer).v_scale\n",
                "* (self._owner(layer).v_scale if cache.v_block_scales is None else 1.0)\n",
            ),
        ),
        proof=quantised("verify", **_PACKED),
    ),
    Mutant(
        id="nvfp4-scales-of-the-reader",
        summary="a redirected layer reads its owner's bytes with the block scales of its own cache",
        clause=Clause.KV_SHARING,
        make=edited(
            "reference",
            Edit(_BLOCKS, "(self.batch.caches[layer].k_block_scales, self.batch.caches[layer].v_block_scales)\n"),
        ),
        proof=quantised("decode", FULL, SHARED, **_PACKED),
    ),
    Mutant(
        id="nvfp4-scales-by-other-strides",
        summary="the pool of block scales is addressed as if nothing lay between its pages",
        clause=Clause.LAYOUT,
        make=edited("triton", Edit("pool.stride(dim)", "pool.contiguous().stride(dim)", "triton.blocks")),
        proof=quantised("decode", paging=Paging(page_size=8, storage="padded"), **_PACKED),
    ),
    Mutant(
        id="nvfp4-scales-of-dead-slots",
        summary="block scales are loaded for all lanes of a tile, also those of tokens that there are not",
        clause=Clause.DEAD_SLOTS,
        make=edited(
            "triton",
            Edit(
                'scale = load_or_zero(scales[:, None] + (place // 16 * block_step)[None, :], mask, "e4m3", tl.float32)',
                'scale = decode(tl.load(scales[:, None] + (place // 16 * block_step)[None, :]), "e4m3", tl.float32)',
            ),
        ),
        proof=quantised("decode", poison={"k": "stale", "v": "nan"}, **_PACKED),
    ),
    Mutant(
        id="nvfp4-scales-of-values-as-they-lie",
        summary="trtllm-gen is handed the block scales of values in the order of tokens, and reads them by four tokens",
        clause=Clause.QUANTISED,
        make=edited(
            "trtllm_mha",
            Edit(
                "tiles.reshape(bits.shape).view(torch.float8_e4m3fn)",
                "cache.v_block_scales",
                "flashinfer.trtllm_mha.blocks",
            ),
        ),
        proof=quantised("decode", _EIGHT_BIT, q_dtype=FP8, out_dtype=FP8, paging=_SERVED, **_PACKED),
    ),
    Mutant(
        id="nvfp4-scales-cleaned",
        summary="the block scales of the null page are zeroed in the pool, lest NaN spread from it",
        clause=Clause.READ_ONLY,
        make=edited(
            "reference",
            Edit(
                "        if cache.k_block_scales is not None and cache.v_block_scales is not None:\n",
                "        if cache.k_block_scales is not None and cache.v_block_scales is not None:\n"
                "            cache.v_block_scales.view(torch.uint8)[0] = 0\n",
            ),
        ),
        proof=quantised("extend", **_PACKED),
    ),
)
