"""The launches of FlashInfer 0.6.13's own tests of its trtllm-gen kernels, as facts: shapes, dtypes, windows, lengths.

Read from the parametrisation of tests/attention/test_trtllm_gen_attention.py at its tag v0.6.13 (57ba7eeb7). What does
not choose a kernel there, or has no word here, is left out: PDL, strides of queries, pages that K and V do not share,
skipped softmax, LSEs. So are non-causal prefills, prefills without pages, and NVFP4.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

RELEASE = "0.6.13"
E4M3, BF16, FP16 = "E4M3", "BF16", "FP16"

Dtypes = tuple[str, str, str]
"""Those of query, cache and answer."""

_PREFILL_DTYPES = ((BF16, BF16, BF16), (FP16, FP16, FP16), (E4M3, E4M3, BF16), (E4M3, E4M3, FP16), (E4M3, E4M3, E4M3))
_DECODE_DTYPES = (
    *((BF16, BF16, BF16), (FP16, FP16, FP16), (BF16, E4M3, BF16), (FP16, E4M3, FP16)),
    *((E4M3, E4M3, BF16), (E4M3, E4M3, FP16), (E4M3, E4M3, E4M3)),
)
SKIPPED_DTYPES = ((BF16, E4M3, E4M3), (FP16, E4M3, E4M3))
"""In the lists of decodes, too, where these tests skip them: an 8-bit answer wants an 8-bit query."""

_WIDE_DTYPES = ((BF16, BF16, BF16), (FP16, FP16, FP16), (E4M3, E4M3, E4M3), (E4M3, E4M3, BF16))
_USUAL = ((BF16, BF16, BF16), (E4M3, E4M3, E4M3))

# requests, page size, KV heads, group
_PREFILLS = (
    *((4, 16, 2, 1), (4, 32, 4, 5), (4, 64, 4, 8), (128, 16, 2, 5), (128, 32, 4, 1), (128, 64, 2, 8)),
    *((256, 16, 4, 8), (256, 32, 2, 8), (256, 64, 4, 1), (256, 64, 4, 5)),
)

# requests, query tokens, page size, KV heads, group
_DECODES = (
    *((4, 1, 16, 2, 1), (4, 1, 32, 2, 5), (4, 2, 64, 2, 5), (4, 3, 32, 2, 5), (4, 3, 64, 2, 1), (4, 4, 64, 4, 1)),
    *((4, 5, 64, 4, 8), (128, 1, 64, 2, 5), (128, 2, 32, 4, 1), (128, 3, 16, 4, 8), (128, 4, 16, 2, 5)),
    *((128, 5, 16, 2, 5), (256, 1, 64, 4, 8), (256, 2, 16, 2, 8), (256, 3, 64, 4, 5), (256, 4, 32, 2, 8)),
    (256, 5, 32, 2, 1),
)
_LONG_DECODES = (
    *((1, 1, 16, 2, 1), (1, 1, 32, 2, 5), (1, 3, 64, 2, 1), (1, 4, 64, 4, 1)),
    *((32, 4, 16, 2, 8), (32, 8, 16, 2, 8), (32, 16, 16, 2, 8)),
)
_LONG = (4096, 8192, 16_384, 32_768, 65_536, 131_072)
_DRAFTS = (
    *((requests, 4, 64, 4, 16, head_dim) for requests in (4, 8, 16, 32) for head_dim in (128, 256)),
    *((*decode, 128) for decode in _DECODES[:12]),
    *((256, 1, 64, 4, 8, 256), (256, 2, 16, 2, 8, 256), (256, 3, 64, 4, 5, 256), (256, 4, 32, 2, 8, 256)),
    (256, 16, 32, 2, 8, 256),
)
_LARGE_PAGES = (128, 256, 512, 1024)


class OwnShape(NamedTuple):
    """One launch of one of their ``test``s; ``max_kv_len`` counts the query tokens, too."""

    test: str
    kind: Literal["prefill", "decode"]
    dtypes: Dtypes
    requests: int
    q_len: int
    max_kv_len: int
    page_size: int
    kv_heads: int
    group: int
    head_dim: int
    window_left: int
    sinks: bool


def own_shapes() -> Iterator[OwnShape]:
    """Yield each launch that their tests execute."""
    yield from _prefills()
    yield from _decodes()


def _prefills() -> Iterator[OwnShape]:
    for (requests, page, heads, group), dtypes, head_dim, sinks in product(
        _PREFILLS, _PREFILL_DTYPES, (128, 256), (False, True)
    ):
        yield OwnShape("batch_prefill", "prefill", dtypes, requests, 511, 2558, page, heads, group, head_dim, -1, sinks)
    for head_dim in (128, 256):
        yield OwnShape("batch_prefill_bs1", "prefill", _USUAL[0], 1, 8192, 16_384, 16, 8, 8, head_dim, -1, sinks=False)
    for page in _LARGE_PAGES:
        yield OwnShape(
            "batch_prefill_dynamic_page_size_gqa", "prefill", _USUAL[0], 4, 257, 1281, page, 2, 5, 128, -1, sinks=False
        )
    for (requests, page, heads, group), dtypes, q_len, keys in product(
        ((4, 16, 2, 1), (4, 32, 4, 5), (128, 16, 2, 8)), _WIDE_DTYPES, (1, 255, 511), (511, 2047)
    ):
        yield OwnShape(
            "batch_prefill_head_dim_512", "prefill", dtypes, requests, q_len, keys + q_len, page, heads, group, 512, -1,
            sinks=False,
        )  # fmt: skip


def _decodes() -> Iterator[OwnShape]:
    usual = product(_DECODES, _DECODE_DTYPES, (128, 256), (-1, 127), (False, True), ("batch_decode",))
    drafts = product(_DRAFTS, _DECODE_DTYPES, (0,), (-1, 127), (False, True), ("batch_decode_spec",))
    for shape, dtypes, head_dim, window, sinks, test in (*usual, *drafts):
        requests, q_len, page, heads, group, *own = shape
        dim = own[0] if own else head_dim
        yield OwnShape(test, "decode", dtypes, requests, q_len, 110 + q_len, page, heads, group, dim, window, sinks)
    others = (
        ("batch_decode_bs1", ((1, 1, 16, 8, 8), (1, 1, 32, 8, 8)), (_USUAL[1],), (4096, 8192), 128),
        ("batch_decode_long_sequence_length", _LONG_DECODES, _USUAL, _LONG, 128),
        (
            "batch_decode_head_dim_512",
            ((4, 1, 16, 2, 1), (4, 1, 32, 2, 5), (4, 3, 64, 4, 1), (128, 3, 16, 4, 8)),
            _WIDE_DTYPES,
            (110, 4096, 8192),
            512,
        ),
    )
    for test, shapes, dtypes_of, lengths, head_dim in others:
        for (requests, q_len, page, heads, group), dtypes, keys in product(shapes, dtypes_of, lengths):
            yield OwnShape(
                test, "decode", dtypes, requests, q_len, keys + q_len, page, heads, group, head_dim, -1, sinks=False
            )
    for page, q_len, window in product(_LARGE_PAGES, (1, 2), (-1, 127)):
        yield OwnShape(
            "batch_decode_dynamic_page_size_gqa", "decode", _USUAL[0], 4, q_len, 1024 + q_len, page, 2, 5, 128, window,
            sinks=False,
        )  # fmt: skip
