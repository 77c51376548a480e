"""One tile of keys in the running softmax: what the paged attention kernel repeats.

The same source is compiled for a GPU and interpreted on a CPU. Three habits below belong to the interpreter: only
builtins of ``tl`` are called (``tl.max``, ``tl.sum`` and ``tl.zeros`` are jitted functions, which cost 0.3 ms a call
there and cannot be called at all when triton was imported before ``TRITON_INTERPRET`` was set; our own parts are
plain functions there, see ``device_function``), index arithmetic is
in the type ``INDEX`` (int64 there, because each int32 operation is checked for overflow at nine times the cost), and
bfloat16 and float8 travel as bits (its conversions truncate, lose e4m3's NaN, and its dot takes bfloat16 for integers).

Names of sizes: ``BLOCK_M`` rows of a block, which pack ``BLOCK_M // GROUP`` query tokens with the ``GROUP`` query
heads of one KV head; ``BLOCK_N`` keys of a tile; ``BLOCK_D`` and ``BLOCK_V`` the widths of keys and of values, padded
to powers of two. Scores are held in units of log 2, so that the exponential is ``exp2``.
"""

# ruff: noqa: ANN001, ANN201, N803, PLR0913 - kernels: Triton reads only constexpr annotations, which it writes in capitals
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

_MAX = tl.standard._elementwise_max  # noqa: SLF001 - what tl.max and tl.sum reduce with; the interpreter knows
_SUM = tl.standard._sum_combine  # noqa: SLF001 - these two, and loops in Python over any other

INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
"""Whether ``triton.jit`` makes interpreted kernels: decided when this module is imported."""

LOWEST = tl.constexpr(-3.4028234663852886e38)
LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


def device_function(fn):
    """Make a part of a kernel of ``fn``: jitted for the compiler, and left as it is for the interpreter.

    The interpreter runs kernels as Python, so a plain function is the same to it; a jitted one makes it patch
    triton.language anew at each call.
    """
    return fn if INTERPRETED.value else triton.jit(fn)


@device_function
def soft_cap(scores, cap):
    """Return ``cap * tanh(scores / cap)`` with a relative error under 2**-21, without overflow for any score.

    Cephes' tanhf: near 0 an odd polynomial, because 1 - 2 / (exp(2x) + 1) cancels there; clamped at 10, where tanh
    has been 1 in float32 since 9.02.
    """
    x = scores / cap
    magnitude = tl.minimum(tl.abs(x), 10.0)
    square = magnitude * magnitude
    series = -5.70498872745e-3 * square + 2.06390887954e-2
    series = series * square - 5.37397155531e-2
    series = series * square + 1.33314422036e-1
    series = series * square - 3.33332819422e-1
    near = series * square * magnitude + magnitude
    far = 1.0 - 2.0 / (tl.exp2(magnitude * (2.0 * LOG2_E)) + 1.0)
    value = tl.where(magnitude < 0.625, near, far)  # noqa: PLR2004 - where the two agree
    return cap * tl.where(x < 0.0, -value, value)


@device_function
def round_to_bf16(x):
    """Return float32 ``x`` rounded to bfloat16, to nearest even, as its 16 bits in an int64: interpreter only."""
    bits = x.to(tl.int32, bitcast=True).to(tl.int64)
    return (bits + 32767 + ((bits >> 16) & 1)) >> 16


@device_function
def round_to_e4m3(x):
    """Return float32 ``x`` rounded to float8_e4m3fn, to nearest even, saturating, as its bits: interpreter only."""
    magnitude = tl.minimum(tl.abs(x), 448.0)
    bits = magnitude.to(tl.int32, bitcast=True).to(tl.int64)
    normal = ((bits + 524287 + ((bits >> 20) & 1)) >> 20) - 960  # 3 bits behind the point, and the exponent less by 120
    subnormal = ((magnitude * 512.0 + 8388608.0) - 8388608.0).to(tl.int64)  # multiples of 2**-9, to nearest even
    code = tl.where(magnitude < 0.015625, subnormal, normal)  # noqa: PLR2004 - the smallest normal number
    code = tl.where(x != x, 127, code)  # noqa: PLR0124 - NaN alone
    return tl.where(x < 0.0, code + 128, code)


@device_function
def decode(x, FORMAT: tl.constexpr, DOT: tl.constexpr):
    """Return loaded elements as a dot operand of dtype ``DOT``, exactly.

    ``FORMAT`` is "native" for what the compiler converts itself; the others are bits, in the interpreter or of block
    scales.
    """
    if FORMAT == "bf16":
        return (x.to(tl.int32) << 16).to(tl.float32, bitcast=True)
    if FORMAT == "e4m3":
        bits = x.to(tl.int32)
        code = bits & 127
        # Moved to float32's place, the exponent is too small by 127 - 7; subnormals are multiples of 2**-9.
        normal = ((code << 20) + (120 << 23)).to(tl.float32, bitcast=True)
        magnitude = tl.where(code < 8, code.to(tl.float32) * 0.001953125, normal)  # noqa: PLR2004 - the first normal
        magnitude = tl.where(code == 127, float("nan"), magnitude)  # noqa: PLR2004 - the one NaN
        return tl.where(bits > 127, -magnitude, magnitude)  # noqa: PLR2004 - the sign bit
    if FORMAT == "e5m2":
        return (x.to(tl.int32) << 8).to(tl.uint16).to(tl.float16, bitcast=True).to(tl.float32)  # float16, cut off
    return x.to(DOT)


@device_function
def load_or_zero(pointers, mask, FORMAT: tl.constexpr, DOT: tl.constexpr):
    """Return the elements that ``mask`` allows, as dot operands, and 0 elsewhere; the other lanes touch no memory."""
    if INTERPRETED:
        # It fills with 0 anyway; asked to, it builds and casts a matrix of zeros first.
        return decode(tl.load(pointers, mask=mask), FORMAT, DOT)
    return decode(tl.load(pointers, mask=mask, other=0.0), FORMAT, DOT)


@device_function
def load_stored(
    base, offset, place, step, mask, blocks, page, slot, block_page, block_slot, block_step,
    FORMAT: tl.constexpr, DOT: tl.constexpr,
):  # fmt: skip
    """Return the numbers ``place`` [D] of keys, or of values, as dot operands, and 0 where ``mask`` [keys, D] is false.

    Their tokens begin ``offset`` [keys] behind ``base``. In format "nvfp4" each of their bytes has two numbers, and
    ``blocks`` the scale of each 16, as bits of e4m3, for ``page`` and ``slot`` [keys]; no conversion of the hardware's
    is needed, and the product is exact in every dtype of 16 bits.
    """
    # Both branches in full: Triton 3.6 compiles what stands behind a return that it takes, for any dtype.
    if FORMAT == "nvfp4":
        pair = load_or_zero((base + offset)[:, None] + (place // 2 * step)[None, :], mask, "native", tl.int32)
        scales = blocks + page * block_page + slot * block_slot
        scale = load_or_zero(scales[:, None] + (place // 16 * block_step)[None, :], mask, "e4m3", tl.float32)
        code = (pair >> (place % 2 * 4).to(tl.int32)[None, :]) & 15
        magnitude = code & 7
        # Moved to float32's place, the exponent is too small by 127 - 1; below it there is one half alone.
        normal = ((magnitude << 22) + (126 << 23)).to(tl.float32, bitcast=True)
        number = tl.where(magnitude < 2, magnitude.to(tl.float32) * 0.5, normal)  # noqa: PLR2004 - the first normal
        loaded = (tl.where(code > 7, -number, number) * scale).to(DOT)  # noqa: PLR2004 - the sign bit
    else:
        loaded = load_or_zero((base + offset)[:, None] + (place * step)[None, :], mask, FORMAT, DOT)
    return loaded


@device_function
def visit_tile(
    q, m, total, acc, start, first_key, stop, oldest, newest, table, k, v, d, dv,
    branches, depths, rows, cached,
    k_page, k_slot, k_dim, v_page, v_slot, v_dim, table_column, scale, cap,
    k_blocks, v_blocks, kb_page, kb_slot, kb_dim, vb_page, vb_slot, vb_dim,
    HEAD_DIM: tl.constexpr, VALUE_DIM: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_V: tl.constexpr, PAGE_SIZE: tl.constexpr,
    SAME_STRIDES: tl.constexpr, BOUNDED: tl.constexpr, TREE: tl.constexpr, SOFT_CAP: tl.constexpr,
    KV_FORMAT: tl.constexpr, P_BITS: tl.constexpr, DOT: tl.constexpr, INDEX: tl.constexpr,
):  # fmt: skip
    """Add the keys [start, start + BLOCK_N) to the running softmax of a block and return its new (m, total, acc).

    Rows see the keys up to ``newest``, and if the layer is BOUNDED, from ``oldest`` on. Lanes outside [first_key, stop)
    are never loaded: their page ids, keys and values may be anything. In a TREE the keys behind ``cached`` are seen
    where ``branches`` [BLOCK_M] has a byte for them, in the ``rows`` in use, and stand at their ``depths`` behind it.
    """
    n = tl.arange(0, BLOCK_N).to(INDEX) + start
    live = n < stop
    if BOUNDED:
        live = live & (n >= first_key)
    page = tl.load(table + n // PAGE_SIZE * table_column, mask=live, other=0).to(tl.int64)
    slot = n % PAGE_SIZE
    mask = live[:, None]
    if HEAD_DIM != BLOCK_D:
        mask = mask & (d < HEAD_DIM)[None, :]

    slot = slot.to(tl.int64)
    k_offset = page * k_page + slot * k_slot
    keys = load_stored(k, k_offset, d, k_dim, mask, k_blocks, page, slot, kb_page, kb_slot, kb_dim, KV_FORMAT, DOT)
    scores = tl.dot(q, tl.trans(keys), input_precision="ieee") * scale
    if SOFT_CAP:
        scores = soft_cap(scores, cap) * LOG2_E
    seen = n[None, :] <= newest[:, None]
    place = n
    if TREE:
        draft = live & (n >= cached)
        depth = tl.load(depths + (n - cached), mask=draft, other=0).to(INDEX)
        place = tl.where(draft, cached + depth, n)
        branch = tl.load(branches[:, None] + (n - cached)[None, :], mask=rows[:, None] & draft[None, :], other=0)
        seen = (n < cached)[None, :] | (branch.to(tl.int32) > 0)
    if BOUNDED:
        seen = seen & (place[None, :] >= oldest[:, None])
    scores = tl.where(seen, scores, float("-inf"))

    # m starts at the lowest finite number: a row that has seen no key yet gets exp2(-inf) = 0 here, not NaN.
    largest = tl.maximum(m, tl.reduce(scores, 1, _MAX))
    p = tl.exp2(scores - largest[:, None])
    kept = tl.exp2(m - largest)
    total = total * kept + tl.reduce(p, 1, _SUM)

    v_offset = k_offset if SAME_STRIDES else page * v_page + slot * v_slot
    if VALUE_DIM != HEAD_DIM:
        mask = live[:, None]
        if VALUE_DIM != BLOCK_V:
            mask = mask & (dv < VALUE_DIM)[None, :]
    values = load_stored(v, v_offset, dv, v_dim, mask, v_blocks, page, slot, vb_page, vb_slot, vb_dim, KV_FORMAT, DOT)
    if P_BITS == "bf16":
        # Veltkamp's split: p to nearest in the 8 significant bits of bfloat16, still held as float32.
        spread = p * 65537.0
        p = spread - (spread - p)
    elif P_BITS == "fp16":
        p = p.to(tl.float16)
    acc = tl.dot(p.to(DOT), values, acc=acc * kept[:, None], input_precision="ieee")
    return largest, total, acc
