"""Our Triton kernels against a float64 loop over hand-built batches."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch

from attnconf.backends.triton import make
from attnconf.backends.triton.tuning import LayerSizes, extend_tuning, padded
from attnconf.cases.case import Layer
from attnconf.cases.inputs.batch import Batch, BatchRow, KVCache, LayerInputs
from attnconf.errors import BackendUnavailableError, UnsupportedError
from attnconf.platforms import Platform, detect
from conformance.tests.support.shapes import a_shape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.backends.protocol import Backend

BF16, FP16, FP32, FP8 = torch.bfloat16, torch.float16, torch.float32, torch.float8_e4m3fn
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
UNIT_ROUNDOFF = {BF16: 2.0**-8, FP16: 2.0**-11, FP32: 2.0**-24}


@dataclass(frozen=True)
class Scene:
    """A batch of one layer, with the float64 keys and values [kv_len, num_kv_heads, head_dim] of each request."""

    batch: Batch
    keys: list[torch.Tensor]
    values: list[torch.Tensor]


def layer(heads: int, kv_heads: int, head_dim: int, **features: object) -> Layer:
    window = features.pop("window_left", -1)
    kind = "full" if window == -1 else "sliding"
    return Layer(
        kind=kind,
        window_left=window,
        num_qo_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        sm_scale=features.pop("sm_scale", head_dim**-0.5),
        **features,
    )


def pool(
    storage: str, pages: int, inner: tuple[int, int, int], dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Two zeroed views [pages, *inner] of bytes that nobody else reads."""
    if storage == "apart":
        made = [torch.zeros(pages, *inner, device=DEVICE) for _ in range(2)]
    elif storage == "interleaved":
        both = torch.zeros(pages, 2, *inner, device=DEVICE)
        made = [both[:, 0], both[:, 1]]
    elif storage == "padded":
        size = math.prod(inner)
        made = [torch.zeros(pages, size + pad, device=DEVICE)[:, :size].unflatten(1, inner) for pad in (8, 24)]
    elif storage == "sliced":
        larger = [torch.zeros(pages + 2, inner[0] + 1, inner[1] + 2, inner[2] + pad, device=DEVICE) for pad in (3, 9)]
        made = [tensor[1:-1, 1:, 1:-1, 2 : 2 + inner[2]] for tensor in larger]
    else:  # every stride its own: head_dim is not the innermost
        first = torch.zeros(inner[2], pages, *inner[:2], device=DEVICE)
        second = torch.zeros(inner[1], inner[2], pages, inner[0], device=DEVICE)
        made = [first.permute(1, 2, 3, 0), second.permute(2, 3, 0, 1)]
    raw = [tensor.to(dtype) if tensor.is_contiguous() else _cast_view(tensor, dtype) for tensor in made]
    return raw[0], raw[1]


def _cast_view(view: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The same view of a storage in another dtype."""
    storage = torch.zeros(view.untyped_storage().nbytes() // 4, device=DEVICE).to(dtype)
    return storage.as_strided(view.shape, view.stride(), view.storage_offset())


def build(  # noqa: PLR0913 - everything that a batch can vary in
    geometry: Layer,
    kv_lens: Sequence[int],
    q_lens: Sequence[int] | None = None,
    *,
    dtype: torch.dtype = FP32,
    kv_dtype: torch.dtype | None = None,
    page_size: int = 16,
    layout: str = "NHD",
    storage: str = "apart",
    poison: float = math.nan,
    tail: int = 2_000_000_000,
    hint: int = 0,
    seed: int = 0,
    page_seed: int = 0,
    reclaim: bool = False,
) -> Scene:
    draw = torch.Generator().manual_seed(seed)
    q_lens = [1] * len(kv_lens) if q_lens is None else q_lens
    kv_dtype = kv_dtype or dtype
    used = [-(-n // page_size) for n in kv_lens]
    pages = sum(used) + 3
    shape = (page_size, geometry.num_kv_heads, geometry.head_dim)
    inner = shape if layout == "NHD" else (shape[1], shape[0], shape[2])
    k, v = pool(storage, pages, inner, kv_dtype)
    for cache in (k, v):
        cache.copy_(torch.full(cache.shape, poison).to(kv_dtype))
    ids = (torch.randperm(pages - 1, generator=torch.Generator().manual_seed(page_seed)) + 1).tolist()
    tables = torch.full((len(kv_lens), max(used, default=0) + 2), tail, dtype=torch.int32)
    keys, values = [], []
    for row, n in enumerate(kv_lens):
        mine = [ids.pop() for _ in range(used[row])]
        tables[row, : used[row]] = torch.tensor(mine, dtype=torch.int32)
        logical = []
        for cache in (k, v):
            stored = torch.randn(n, *shape[1:], generator=draw).to(kv_dtype)
            by_token = cache if layout == "NHD" else cache.transpose(1, 2)
            for token in range(n):
                by_token[mine[token // page_size], token % page_size] = stored[token]
            logical.append(stored.double())
        keys.append(logical[0] * geometry.k_scale)
        values.append(logical[1] * geometry.v_scale)
        if reclaim:  # pages wholly before the window of every query row
            gone = max(0, n - q_lens[row] - geometry.window_left) // page_size
            for page in mine[:gone]:
                k[page] = v[page] = torch.tensor(poison).to(kv_dtype)
            tables[row, :gone] = 0
    tokens = sum(q_lens)
    q = (2 * torch.randn(tokens, geometry.num_qo_heads, geometry.head_dim, generator=draw)).to(DEVICE, dtype)
    sinks = torch.randn(geometry.num_qo_heads, generator=draw)
    batch = Batch(
        mode="decode" if set(q_lens) == {1} else "extend",
        page_size=page_size,
        kv_layout=layout,
        storage="apart",
        qo_indptr=torch.tensor([0, *q_lens]).cumsum(0).to(DEVICE, torch.int32),
        seq_lens=torch.tensor(kv_lens, dtype=torch.int32, device=DEVICE),
        block_tables=tables.to(DEVICE),
        full_to_swa=None,
        q_lens=tuple(q_lens),
        kv_lens=tuple(kv_lens),
        max_q_len=max(q_lens) + hint,
        max_seq_len=max(kv_lens) + hint,
        layers=(LayerInputs(geometry, q, sinks.to(DEVICE) if geometry.sinks else None, 0, q.dtype),),
        caches=(KVCache(k, v, "full"),),
    )
    return Scene(batch, keys, values)


def expected(scene: Scene) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The output, its sum of p * |v|, and the LSE, in float64: a loop over requests, rows and heads."""
    inputs = scene.batch.layers[0]
    geometry = inputs.geometry
    queries = inputs.q.cpu().double()
    out = torch.zeros(queries.shape, dtype=torch.float64)
    size, lse, token = torch.zeros_like(out), torch.full(out.shape[:2], -math.inf, dtype=torch.float64), 0
    batch = scene.batch
    for q_len, kv_len, keys, values in zip(batch.q_lens, batch.kv_lens, scene.keys, scene.values, strict=True):
        for i in range(q_len):
            position = kv_len - q_len + i
            first = 0 if geometry.window_left < 0 else max(0, position - geometry.window_left)
            for head in range(geometry.num_qo_heads):
                kv_head = head // geometry.group_size
                seen = slice(first, position + 1)
                scores = geometry.sm_scale * (keys[seen, kv_head] @ queries[token, head])
                if geometry.logits_soft_cap is not None:
                    scores = geometry.logits_soft_cap * torch.tanh(scores / geometry.logits_soft_cap)
                if inputs.sinks is not None:
                    scores = torch.cat([scores, inputs.sinks[head : head + 1].cpu().double()])
                if scores.numel():
                    lse[token, head] = torch.logsumexp(scores, 0)
                    p = torch.softmax(scores, 0)[: position + 1 - first]
                    out[token, head] = p @ values[seen, kv_head]
                    size[token, head] = p @ values[seen, kv_head].abs()
            token += 1
    return out, size, lse


@pytest.fixture(scope="module")
def backend() -> Backend:
    return make(detect())


def run(backend: Backend, batch: Batch, *, with_lse: bool = True) -> tuple[torch.Tensor, torch.Tensor | None, str]:
    out = torch.full_like(batch.layers[0].q, math.nan)
    lse = torch.full(out.shape[:2], math.nan, device=DEVICE) if with_lse else None
    name = backend.prepare(batch).run(0, out, lse)
    return out.cpu(), lse.cpu() if with_lse else None, name


def check(backend: Backend, scene: Scene) -> str:
    """Both the output's and P's rounding, to u each, and float32 accumulation."""
    out, lse, name = run(backend, scene.batch)
    want, size, want_lse = expected(scene)
    u = UNIT_ROUNDOFF[out.dtype]
    error = (out.double() - want).abs()
    bound = u * want.abs() + (u if u > 2.0**-24 else 0.0) * (size + want.abs()) + 1e-5 * (1 + size)
    assert not torch.isnan(out).any()
    assert (error <= bound).all(), f"worst {(error / bound).max():.2f} of the bound"
    torch.testing.assert_close(lse.double(), want_lse, rtol=2e-6, atol=2e-5)
    return name


LENGTHS = (1, 5, 16, 17, 127, 128, 129, 600)


@pytest.mark.parametrize("dtype", [FP32, FP16, BF16])
def test_decode_over_tiles_and_splits(backend: Backend, dtype: torch.dtype) -> None:
    name = check(backend, build(layer(4, 2, 64), (1100, 3, 768, 769), dtype=dtype))
    assert name.startswith("triton-decode-splitkv[")


@pytest.mark.parametrize("dtype", [FP32, FP16, BF16])
def test_extend_with_and_without_a_prefix(backend: Backend, dtype: torch.dtype) -> None:
    name = check(backend, build(layer(4, 2, 64), (300, 40, 129), (100, 40, 9), dtype=dtype))
    assert name.startswith("triton-extend[")


def test_lengths_at_borders(backend: Backend) -> None:
    check(backend, build(layer(2, 1, 32), LENGTHS))


def test_mixed_batch_runs_all_kernels(backend: Backend) -> None:
    name = check(backend, build(layer(4, 2, 32), (900, 150, 20), (1, 60, 4)))
    assert name.startswith("triton-decode-splitkv+triton-verify-splitkv+triton-extend[")


@pytest.mark.parametrize("tokens", [2, 5, 8])
def test_verify_over_splits(backend: Backend, tokens: int) -> None:
    name = check(backend, build(layer(3, 1, 32), (900, tokens, 40), (tokens,) * 3))
    assert name.startswith("triton-verify-splitkv[")
    check(backend, build(layer(24, 2, 16), (90, tokens), (tokens,) * 2))


@pytest.mark.parametrize("window_left", [0, 1, 15, 127, 128, 700])
def test_windows(backend: Backend, window_left: int) -> None:
    geometry = layer(2, 1, 32, window_left=window_left)
    check(backend, build(geometry, (900, 1, 130), page_size=3))
    check(backend, build(geometry, (400, 30), (200, 30)))


def test_window_over_reclaimed_pages(backend: Backend) -> None:
    geometry = layer(2, 1, 32, window_left=100)
    check(backend, build(geometry, (900, 50, 300), reclaim=True))
    check(backend, build(geometry, (900, 50, 300), (40, 5, 1), reclaim=True))


@pytest.mark.parametrize("scale", [1.0, 1e-3, 300.0])
def test_soft_cap(backend: Backend, scale: float) -> None:
    geometry = layer(4, 2, 64, logits_soft_cap=30.0, sm_scale=scale / 8)
    check(backend, build(geometry, (200, 30)))
    check(backend, build(geometry, (200, 30), (20, 1)))


def test_soft_cap_is_exact_enough_for_scores_of_every_size(backend: Backend) -> None:
    """Over one key the LSE is the score: tanh to 2**-21, relative, for any x, and nothing overflows."""
    scene = build(layer(128, 1, 16, logits_soft_cap=1.0, sm_scale=1.0), (1,) * 8)
    x = torch.cat([torch.logspace(-12, 1.5, 1000), torch.tensor([0.0, 0.6249999, 0.625, 9.9, 10.1, 1e30])])
    x = torch.cat([x, -x])[:1024]
    q = torch.zeros_like(scene.batch.layers[0].q)
    q[:, :, 0] = x.view(8, 128).to(DEVICE)
    for request in range(8):
        scene.batch.caches[0].k[scene.batch.block_tables[request, 0], 0, 0, 0] = 1.0
    lse = run(backend, replace(scene.batch, layers=(replace(scene.batch.layers[0], q=q),)))[1].flatten()
    want = torch.tanh(x.double())
    assert ((lse.double() - want).abs() <= 2.0**-21 * want.abs()).all()


def test_sinks(backend: Backend) -> None:
    geometry = layer(6, 2, 32, sinks=True)
    check(backend, build(geometry, (900, 3, 90)))
    check(backend, build(geometry, (300, 20), (30, 1)))
    check(backend, build(layer(6, 2, 32, sinks=True, window_left=20, logits_soft_cap=5.0), (600, 3), dtype=BF16))


@pytest.mark.parametrize("group", [1, 2, 3, 5, 6, 7, 8, 12, 16, 17])
def test_group_sizes(backend: Backend, group: int) -> None:
    geometry = layer(2 * group, 2, 32)
    check(backend, build(geometry, (140, 9)))
    check(backend, build(geometry, (50, 31), (24, 3)))


@pytest.mark.parametrize("head_dim", [16, 24, 80, 96, 100, 128, 192, 256, 512])
def test_head_dims(backend: Backend, head_dim: int) -> None:
    geometry = layer(2, 1, head_dim)
    check(backend, build(geometry, (150,), dtype=BF16))
    check(backend, build(geometry, (40,), (20,), dtype=FP32))


@pytest.mark.parametrize("page_size", [1, 3, 16, 64, 128, 256])
@pytest.mark.parametrize("layout", ["NHD", "HND"])
def test_page_sizes(backend: Backend, page_size: int, layout: str) -> None:
    check(backend, build(layer(4, 2, 32), (270, 1, 128), page_size=page_size, layout=layout))
    check(backend, build(layer(4, 2, 32), (270, 12), (10, 12), page_size=page_size, layout=layout))


@pytest.mark.parametrize("storage", ["apart", "interleaved", "padded", "sliced", "scrambled"])
@pytest.mark.parametrize("layout", ["NHD", "HND"])
@pytest.mark.parametrize("dtypes", [(BF16, BF16), (BF16, FP8)])
def test_storage_changes_no_bit(
    backend: Backend, storage: str, layout: str, dtypes: tuple[torch.dtype, torch.dtype]
) -> None:
    geometry = layer(4, 2, 40)
    plain, other = (
        build(geometry, (150, 20), (12, 1), dtype=dtypes[0], kv_dtype=dtypes[1], layout=where, storage=kind)
        for where, kind in (("NHD", "apart"), (layout, storage))
    )
    check(backend, other)
    assert torch.equal(run(backend, plain.batch)[0], run(backend, other.batch)[0])


@pytest.mark.parametrize("dtype", [BF16, FP16])
def test_fp8_keys_and_values_with_their_scales(backend: Backend, dtype: torch.dtype) -> None:
    geometry = layer(4, 2, 64, k_scale=0.37, v_scale=2.6)
    check(backend, build(geometry, (900, 33), dtype=dtype, kv_dtype=FP8))
    check(backend, build(geometry, (200, 33), (40, 2), dtype=dtype, kv_dtype=FP8))


@pytest.mark.parametrize("kv_dtype", [FP8, torch.float8_e5m2])
def test_every_8_bit_value_is_read_exactly(backend: Backend, kv_dtype: torch.dtype) -> None:
    """One key a request, so that the output is its value: all finite bytes, subnormals included."""
    every = torch.arange(256, dtype=torch.uint8).view(kv_dtype)
    scene = build(layer(1, 1, 256), (1,), dtype=BF16, kv_dtype=kv_dtype, page_size=1)
    page = int(scene.batch.block_tables[0, 0])
    scene.batch.caches[0].v[page, 0, 0] = every
    out = run(backend, scene.batch)[0][0, 0].float()
    assert torch.equal(torch.nan_to_num(out, 1e9), torch.nan_to_num(every.float(), 1e9))


def test_rows_over_no_key_are_zero_with_lse_minus_infinity(backend: Backend) -> None:
    scene = build(layer(2, 1, 32), (0, 600, 0))
    out, lse, _ = run(backend, scene.batch)
    assert (out[[0, 2]] == 0).all()
    assert (lse[[0, 2]] == -math.inf).all()
    check(backend, scene)
    check(backend, build(layer(2, 1, 32, sinks=True, window_left=3), (0, 60, 0)))


def test_requests_without_query_tokens(backend: Backend) -> None:
    check(backend, build(layer(2, 1, 32), (30, 50, 0, 9, 70), (0, 1, 0, 0, 20)))


@pytest.mark.parametrize("features", [{}, {"window_left": 200}, {"sinks": True}])
@pytest.mark.parametrize("q_lens", [(1, 1), (3, 60)])
@pytest.mark.parametrize("poison", [0.0, 3e38, math.inf, -math.inf])
def test_dead_slots_and_table_tails_change_no_bit(
    backend: Backend, features: dict[str, object], q_lens: tuple[int, ...], poison: float
) -> None:
    geometry = layer(4, 2, 32, **features)
    clean, dirty = (
        build(geometry, (900, 90), q_lens, dtype=BF16, poison=value, tail=tail)
        for value, tail in ((math.nan, 0), (poison, -(2**31)))
    )
    first, second = run(backend, clean.batch), run(backend, dirty.batch)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])


@pytest.mark.parametrize("q_lens", [(1, 1, 1), (8, 8, 8), (1, 40, 9)])
@pytest.mark.parametrize("window_left", [-1, 300])
def test_bits_do_not_depend_on_hints_neighbours_or_page_ids(
    backend: Backend, q_lens: tuple[int, ...], window_left: int
) -> None:
    geometry = layer(4, 2, 32, window_left=window_left)
    scene = build(geometry, (1100, 200, 64), q_lens, dtype=BF16)
    out, lse, _ = run(backend, scene.batch)
    again = [
        build(geometry, (1100, 200, 64), q_lens, dtype=BF16, hint=5000).batch,
        build(geometry, (1100, 200, 64), q_lens, dtype=BF16, page_seed=7).batch,
        scene.batch,
    ]
    for batch in again:
        second = run(backend, batch)
        assert torch.equal(second[0], out)
        assert torch.equal(second[1], lse)
    start = 0
    for request, (q_len, kv_len) in enumerate(zip(q_lens, scene.batch.kv_lens, strict=True)):
        row = BatchRow(request, 0, q_len, kv_len)
        alone = run(backend, scene.batch.derive([row], "extend"))
        twice = run(backend, scene.batch.derive([row, row], "mixed"))
        mine = slice(start, start + q_len)
        assert torch.equal(alone[0], out[mine])
        assert torch.equal(twice[0], torch.cat([out[mine]] * 2))
        assert torch.equal(twice[1], torch.cat([lse[mine]] * 2))
        start += q_len


def test_two_layers_share_one_workspace(backend: Backend) -> None:
    """A redirected layer reads its owner's cache, with its owner's scales and its own sm_scale and heads."""
    owner = layer(4, 2, 32, k_scale=0.5, v_scale=2.0)
    scene = build(owner, (900, 20), dtype=BF16, kv_dtype=FP8)
    reader = layer(8, 2, 32, sm_scale=0.3, kv_owner=0, k_scale=9.0, v_scale=9.0)
    q = torch.randn(2, 8, 32, generator=torch.Generator().manual_seed(1)).to(DEVICE, BF16)
    stored = scene.batch.caches[0]
    rubbish = KVCache(*(torch.full_like(t.float(), math.nan).to(FP8) for t in (stored.k, stored.v)), "full")
    layers = (*scene.batch.layers, LayerInputs(reader, q, None, 0, q.dtype))
    batch = replace(scene.batch, layers=layers, caches=(stored, rubbish))
    prepared = backend.prepare(batch)
    outs = []
    for index in (0, 1, 0):
        outs.append(torch.full_like(batch.layers[index].q, math.nan))
        prepared.run(index, outs[-1], None)
    assert torch.equal(outs[0], outs[2])
    alone = reader.model_copy(update={"kv_owner": None, "k_scale": 0.5, "v_scale": 2.0})
    redirected = replace(scene.batch, layers=(LayerInputs(alone, q, None, 0, q.dtype),))
    assert torch.equal(outs[1].cpu(), run(backend, redirected)[0])
    check(backend, replace(scene, batch=redirected))


def test_sliding_layer_reads_its_own_pool(backend: Backend) -> None:
    geometry = layer(2, 1, 32, window_left=30)
    scene = build(geometry, (90, 20), page_size=8)
    k, v = scene.batch.caches[0].k, scene.batch.caches[0].v
    shift = torch.roll(torch.arange(k.shape[0], device=DEVICE), 5)  # the page ids of the swa pool
    moved = KVCache(torch.empty_like(k), torch.empty_like(v), "swa")
    moved.k[shift], moved.v[shift] = k, v
    slots = (shift[:, None] * 8 + torch.arange(8, device=DEVICE)).flatten()
    hybrid = replace(scene.batch, caches=(moved,), full_to_swa=slots)
    assert torch.equal(run(backend, hybrid)[0], run(backend, scene.batch)[0])


def test_output_and_query_strides_and_untouched_surroundings(backend: Backend) -> None:
    scene = build(layer(4, 2, 40), (830, 20, 9), (1, 12, 1), dtype=BF16)
    want, want_lse, _ = run(backend, scene.batch)
    inputs = scene.batch.layers[0]
    wide = torch.zeros(14, 4, 96, dtype=BF16, device=DEVICE)
    q = wide[:, :, 7:47].copy_(inputs.q)
    batch = replace(scene.batch, layers=(replace(inputs, q=q),))
    held, held_lse = torch.full((16, 6, 44), 7.0, dtype=BF16, device=DEVICE), torch.full((6, 16), 7.0, device=DEVICE)
    backend.prepare(batch).run(0, held[1:15, 1:5, 2:42], held_lse[1:5, 1:15].t())
    assert torch.equal(held[1:15, 1:5, 2:42].cpu(), want)
    assert torch.equal(held_lse[1:5, 1:15].t().cpu(), want_lse)
    held[1:15, 1:5, 2:42] = 7.0
    held_lse[1:5, 1:15] = 7.0
    assert (held == 7.0).all()
    assert (held_lse == 7.0).all()


def test_inputs_are_left_alone(backend: Backend) -> None:
    scene = build(layer(4, 2, 32, sinks=True), (600, 40), (1, 20), dtype=BF16, kv_dtype=FP8)
    before = {name: tensor.clone().view(torch.uint8) for name, tensor in scene.batch.tensors()}
    run(backend, scene.batch)
    for name, tensor in scene.batch.tensors():
        assert torch.equal(tensor.view(torch.uint8), before[name]), name


@pytest.mark.parametrize("flushes", [False, True])
def test_subnormals_are_to_others_what_they_were(backend: Backend, flushes: bool) -> None:  # noqa: FBT001 - a parameter
    try:
        torch.set_flush_denormal(flushes)
        run(backend, build(layer(4, 2, 32), (60, 40)).batch)
        assert bool(torch.tensor(2.0**-126) * 0.5 == 0.0) is flushes
    finally:
        torch.set_flush_denormal(False)


def test_without_lse_the_output_is_the_same(backend: Backend) -> None:
    batch = build(layer(4, 2, 32), (600, 40)).batch
    assert torch.equal(run(backend, batch, with_lse=False)[0], run(backend, batch)[0])


shape = partial(a_shape, head_dim=128, num_qo_heads=8, num_kv_heads=2, kv_layout="NHD")


def test_supports_names_its_reasons(backend: Backend) -> None:
    hopper, ampere = (Platform(sm=sm, packages={"triton": "3.6.0"}) for sm in ((9, 0), (8, 0)))
    assert backend.supports(shape(), hopper) is None
    assert backend.supports(shape(kv_dtype="float8_e4m3fn"), hopper) is None
    assert "SM 8.9" in backend.supports(shape(kv_dtype="float8_e4m3fn"), ampere).reason
    assert backend.supports(shape(kv_dtype="float8_e5m2"), ampere) is None
    assert "head_dim 576" in backend.supports(shape(head_dim=576), hopper).reason
    assert backend.supports(shape(num_qo_heads=64, num_kv_heads=1, head_dim=512), hopper) is None
    assert "65 query heads" in backend.supports(shape(num_qo_heads=65, num_kv_heads=1, head_dim=512), hopper).reason
    assert "attnconf[triton]" in backend.supports(shape(), Platform()).reason


def test_a_layer_that_cannot_run_refuses_before_launch(backend: Backend) -> None:
    batch = build(layer(1, 1, 576), (3,)).batch
    out = torch.full_like(batch.layers[0].q, 7.0)
    with pytest.raises(UnsupportedError, match="layer 0: head_dim 576 is above 512"):
        backend.prepare(batch).run(0, out, None)
    assert bool((out == 7.0).all())


def test_numerics(backend: Backend) -> None:
    profile = backend.numerics(shape(q_dtype="float16", kv_dtype="float8_e4m3fn"))
    assert (profile.p, profile.accumulator, profile.partials) == ("float16", "float32", "float32")
    assert profile.dequantised is None


def test_without_triton_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(BackendUnavailableError, match=r"pip install .*attnconf\[triton\]"):
        make(Platform())


def test_a_triton_without_numpy_is_not_a_broken_package_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "numpy" else name)
    with pytest.raises(BackendUnavailableError, match=r"needs the package numpy, .*; pip install .*attnconf\[triton\]"):
        make(Platform())


def test_importing_the_backend_imports_no_triton() -> None:
    code = "import sys, attnconf.backends.triton; assert 'triton' not in sys.modules; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - our own text


def test_triton_imported_before_the_backend_is_no_obstacle() -> None:
    code = (
        "import os, triton, triton.language, runpy, sys, torch\n"
        "from attnconf.backends.triton.launch import interpreted\n"
        "assert interpreted() and 'TRITON_INTERPRET' not in os.environ\n"
        "test = sys.argv[1] + '::test_decode_over_tiles_and_splits[dtype0]'\n"
        "sys.argv = ['pytest', '-q', '-p', 'no:cacheprovider', test]\n"
        "runpy.run_module('pytest', run_name='__main__')"
    )
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"} | {"CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", code, __file__], check=True, env=env)  # noqa: S603 - our own text


@pytest.mark.parametrize("shared_memory", [99 * 1024, 163 * 1024, 227 * 1024])
@pytest.mark.parametrize("head_dim", [64, 128, 192, 256, 512])
def test_blocks_of_extends_fit_each_gpus_shared_memory(head_dim: int, shared_memory: int) -> None:
    cut = extend_tuning(LayerSizes(8, head_dim, 4, 2), shared_memory=shared_memory, interpreted=False)
    assert (cut.block_m + 2 * cut.num_stages * cut.block_n) * padded(head_dim) * 2 <= shared_memory
    smaller = extend_tuning(LayerSizes(8, head_dim, 4, 2), shared_memory=0, interpreted=False)
    assert smaller.block_m * smaller.block_n <= cut.block_m * cut.block_n


COMPILE = """
import torch, triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from attnconf.backends.triton import kernel
from attnconf.backends.triton.tuning import LayerSizes, extend_tuning, merge_warps, padded, split_tuning

POINTERS = dict(q="bf16", k="KV", v="KV", out="bf16", lse="fp32", sinks="fp32", partial="fp32", stats="fp32",
                work="i32", qo_indptr="i32", seq_lens="i32", row_spans="i32", tables="i32",
                tree_mask="u8", row_depths="i32", k_scales="fp32", v_scales="fp32", k_blocks="u8", v_blocks="u8")

def shared(cut, kv, group, head_dim, value_dim, mask):
    constants = dict(
        GROUP=group, HEAD_DIM=head_dim, VALUE_DIM=value_dim, PAGE_SIZE=16, BLOCK_M=cut.block_m, BLOCK_N=cut.block_n,
        BLOCK_D=padded(head_dim), BLOCK_V=padded(value_dim), MAX_SPLITS=cut.max_splits, MIN_SPLIT=cut.min_split,
        SAME_STRIDES=head_dim == value_dim, WINDOWED=mask != "both", CHUNKED=False, SOFT_CAP=True, SINKS=True,
        SPANS=mask == "spans", TREE=mask == "tree", BOTH_WAYS=mask.startswith("both"), LSE=True,
        HEAD_SCALES=kv == "fp8e4nv",
        Q_FORMAT="native", KV_FORMAT="nvfp4" if kv == "u8" else "native", OUT_FORMAT="native", P_BITS="none",
        DOT=tl.bfloat16, INDEX=tl.int32,
        BLOCK_ROWS=cut.block_m, q_dim=1, k_dim=1, v_dim=1, out_dim=1, table_column=1)
    most = 0
    for function in (kernel.attend, kernel.merge) if cut.max_splits > 1 else (kernel.attend,):
        types, values = {}, {}
        for index, name in enumerate(function.arg_names):
            if name in constants:
                types[name], values[(index,)] = "constexpr", constants[name]
            elif name in POINTERS:
                types[name] = "*" + POINTERS[name].replace("KV", kv)
            else:
                types[name] = "fp32" if name in ("scale", "cap", "v_scale") else "i32"
        source = ASTSource(fn=function, signature=types, constexprs=values)
        warps = cut.num_warps if function is kernel.attend else merge_warps(cut.block_m * padded(value_dim))
        options = {"num_warps": warps, "num_stages": cut.num_stages}
        most = max(most, triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options).metadata.shared)
    return most

for kv, group, head_dim, value_dim, mask in (
    ("bf16", 8, 512, 512, "spans"), ("fp8e4nv", 5, 96, 96, "both in a window"), ("bf16", 8, 192, 128, "tree"),
    ("bf16", 4, 64, 64, "both"), ("u8", 8, 512, 512, "spans"),
):
    sizes = LayerSizes(group, head_dim, 8, 2, value_dim)
    extend = extend_tuning(sizes, shared_memory=227 * 1024, interpreted=False)
    for cut in (split_tuning(sizes, 1, interpreted=False), extend):
        used = shared(cut, kv, group, head_dim, value_dim, mask)
        assert used <= 227 * 1024, (cut, used)
"""


def test_the_same_source_compiles_for_hopper_within_its_shared_memory() -> None:
    """Triton carries its own ptxas, so this needs no GPU."""
    env = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    subprocess.run([sys.executable, "-c", COMPILE], check=True, env=env)  # noqa: S603 - our own text
