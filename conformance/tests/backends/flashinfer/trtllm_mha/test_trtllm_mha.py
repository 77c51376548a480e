"""The trtllm_mha adapter against a plain float64 loop: every fact that it translates, one test."""

from __future__ import annotations

import importlib
import math
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from attnconf.backends.flashinfer import library
from attnconf.backends.flashinfer.trtllm_mha import contract, make
from attnconf.backends.flashinfer.trtllm_mha.backend import TrtllmMha, refuse_caches
from attnconf.backends.flashinfer.trtllm_mha.calls import build_call, build_metadata, draft_mask
from attnconf.backends.flashinfer.trtllm_mha.signature import SignatureMismatchError, bind
from attnconf.backends.flashinfer.trtllm_mha.workspace import workspace
from attnconf.cases.case import Layer
from attnconf.cases.inputs.batch import Batch, KVCache, LayerInputs
from attnconf.errors import BackendUnavailableError, UnsupportedError
from attnconf.platforms import Platform

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.flashinfer.trtllm_mha.dispatch import Family
    from attnconf.cases.case import KVLayout, Mode, Storage

VERSION = library.version()
PAGE = 16
HEAD_DIM = 64
PLATFORM = Platform(packages={"flashinfer-python": VERSION})


def layer(**changes: object) -> Layer:
    fields: dict[str, Any] = {
        "kind": "full",
        "num_qo_heads": 6,
        "num_kv_heads": 2,
        "head_dim": HEAD_DIM,
        "sm_scale": 0.2,
    }
    return Layer(**(fields | changes))


def sliding(window_left: int, **changes: object) -> Layer:
    return layer(kind="sliding", window_left=window_left, **changes)


def pool(pages: int, heads: int, layout: KVLayout, storage: Storage, dtype: torch.dtype) -> list[torch.Tensor]:
    """Return K and V as views of shape NHD or HND."""
    rng = torch.Generator().manual_seed(3)
    inner = (PAGE, heads, HEAD_DIM) if layout == "NHD" else (heads, PAGE, HEAD_DIM)
    shape = (pages, 2, *inner) if storage == "interleaved" else (2, pages, *inner)
    data = torch.randn(shape, generator=rng).to(dtype)
    return list(data.unbind(1 if storage == "interleaved" else 0))


def batch(  # noqa: PLR0913 - a batch has this many independent properties
    geometry: Layer,
    mode: Mode,
    lens: list[tuple[int, int]],
    *,
    layout: KVLayout = "HND",
    storage: Storage = "interleaved",
    kv_dtype: torch.dtype = torch.bfloat16,
    swa: bool = False,
) -> Batch:
    """Return a batch of one layer over random pages; ``lens`` are (new tokens, cached plus new tokens)."""
    rng = torch.Generator().manual_seed(7)
    needed = [-(-kv // PAGE) for _, kv in lens]
    pages = sum(needed) + 3
    order = (torch.randperm(pages - 1, generator=rng) + 1).tolist()
    tables = torch.full((len(lens), max(needed) + 2), pages - 1, dtype=torch.int32)
    for row, count in enumerate(needed):
        tables[row, :count] = torch.tensor([order.pop() for _ in range(count)])
    full_to_swa = None
    if swa:
        target = torch.cat([torch.zeros(1, dtype=torch.int64), torch.randperm(pages - 1, generator=rng) + 1])
        full_to_swa = (target[:, None] * PAGE + torch.arange(PAGE)).reshape(-1)
    k, v = pool(pages, geometry.num_kv_heads, layout, storage, kv_dtype)
    tokens = sum(q for q, _ in lens)
    q = torch.randn(tokens, geometry.num_qo_heads, HEAD_DIM, generator=rng).to(torch.bfloat16)
    sinks = torch.linspace(-1.0, 4.0, geometry.num_qo_heads) if geometry.sinks else None
    return Batch(
        mode=mode,
        page_size=PAGE,
        kv_layout=layout,
        storage=storage,
        qo_indptr=torch.tensor([0, *[q for q, _ in lens]]).cumsum(0).to(torch.int32),
        seq_lens=torch.tensor([kv for _, kv in lens], dtype=torch.int32),
        block_tables=tables,
        full_to_swa=full_to_swa,
        q_lens=tuple(q for q, _ in lens),
        kv_lens=tuple(kv for _, kv in lens),
        max_q_len=max(q for q, _ in lens),
        max_seq_len=max(kv for _, kv in lens) + 5,
        layers=(LayerInputs(geometry, q, sinks, 0, q.dtype),),
        caches=(KVCache(k, v, "swa" if swa else "full"),),
    )


def expected(given: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention in float64, one token, head and key at a time; natural LSE."""
    inputs, cache = given.layers[0], given.caches[0]
    geometry = inputs.geometry
    k, v = cache.k.double(), cache.v.double()
    if given.kv_layout == "HND":
        k, v = k.transpose(1, 2), v.transpose(1, 2)
    out = torch.zeros(inputs.q.shape, dtype=torch.float64)
    lse = torch.zeros(inputs.q.shape[:2], dtype=torch.float64)
    token = 0
    for row, (q_len, kv_len) in enumerate(zip(given.q_lens, given.kv_lens, strict=True)):
        for position in range(kv_len - q_len, kv_len):
            left = 0 if geometry.window_left < 0 else max(0, position - geometry.window_left)
            where = []
            for key in range(left, position + 1):
                page = int(given.block_tables[row, key // PAGE])
                if cache.pool == "swa":
                    assert given.full_to_swa is not None
                    page = int(given.full_to_swa[page * PAGE]) // PAGE
                where.append((page, key % PAGE))
            for head in range(geometry.num_qo_heads):
                kv_head = head // geometry.group_size
                keys = torch.stack([k[page, slot, kv_head] for page, slot in where]) * geometry.k_scale
                values = torch.stack([v[page, slot, kv_head] for page, slot in where]) * geometry.v_scale
                scores = keys @ inputs.q[token, head].double() * geometry.sm_scale
                if geometry.logits_soft_cap:
                    scores = geometry.logits_soft_cap * torch.tanh(scores / geometry.logits_soft_cap)
                total = scores.exp().sum() + (inputs.sinks[head].double().exp() if inputs.sinks is not None else 0)
                out[token, head] = scores.exp() @ values / total
                lse[token, head] = total.log()
            token += 1
    return out, lse


def run(given: Batch, *, with_lse: bool = False) -> tuple[torch.Tensor, torch.Tensor, str]:
    backend = make(PLATFORM)
    out = torch.full_like(given.layers[0].q, torch.nan)
    lse = torch.full(out.shape[:2], torch.nan) if with_lse else None
    name = backend.prepare(given).run(0, out, lse)
    return out, out.new_empty(0) if lse is None else lse, name


def run_as(given: Batch, kernel: Family) -> torch.Tensor:
    """Build the call of a kernel that this machine lacks, bind it and execute its contract."""
    out = torch.full_like(given.layers[0].q, torch.nan)
    scratch = workspace(torch.device("cpu"), kernel)
    metadata = build_metadata(given, kernel)
    call = build_call(kernel, given, 0, metadata, workspace=scratch, out=out, lse=None)
    contract.execute(
        call.function, bind(library.load(call.module, call.function), call.function, call.arguments, VERSION)
    )
    return out


def close(out: torch.Tensor, want: torch.Tensor) -> bool:
    return bool(((out.double() - want).abs() <= 2**-8 * want.abs() + 2**-12).all())


DECODE = [(1, 1), (1, 16), (1, 17), (1, 50)]
VERIFY = [(3, 3), (3, 33), (3, 64)]
EXTEND = [(5, 5), (1, 40), (20, 33), (2, 18)]
LENS: dict[Mode, list[tuple[int, int]]] = {"decode": DECODE, "verify": VERIFY, "extend": EXTEND, "mixed": EXTEND}
GEOMETRIES = {
    "full": layer(),
    "window": sliding(7),
    "window of one key": sliding(0),
    "sinks": layer(sinks=True),
    "window and sinks": sliding(15, sinks=True),
}


@pytest.mark.parametrize("layout", ["NHD", "HND"])
@pytest.mark.parametrize("mode", ["decode", "verify", "extend", "mixed"])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_sm100_calls_compute_attention(geometry: Layer, mode: Mode, layout: KVLayout) -> None:
    given = batch(geometry, mode, LENS[mode], layout=layout)
    with_lse = make(PLATFORM).promises.lse == "two"
    out, lse, name = run(given, with_lse=with_lse)
    want, want_lse = expected(given)
    assert close(out, want)
    assert not with_lse or torch.allclose(lse.double(), want_lse * math.log2(math.e), atol=1e-5)
    kind = "decode" if mode in {"decode", "verify"} else "context"
    assert name == f"contract:trtllm_batch_{kind}_with_kv_cache"


@pytest.mark.parametrize("storage", ["interleaved", "apart"])
@pytest.mark.parametrize("layout", ["NHD", "HND"])
@pytest.mark.parametrize("mode", ["decode", "verify", "extend", "mixed"])
@pytest.mark.parametrize("geometry", GEOMETRIES.values(), ids=GEOMETRIES)
def test_hopper_calls_compute_attention(geometry: Layer, mode: Mode, layout: KVLayout, storage: Storage) -> None:
    given = batch(geometry, mode, LENS[mode], layout=layout, storage=storage)
    out = run_as(given, "xqa" if mode in {"decode", "verify"} else "fmha_v2")
    assert close(out, expected(given)[0])


@pytest.mark.parametrize("mode", ["decode", "verify"])
@pytest.mark.parametrize("kernel", ["trtllm-gen-decode", "xqa"])
def test_both_scales_reach_their_product(kernel: Family, mode: Mode) -> None:
    geometry = layer(k_scale=0.5, v_scale=3.0)
    given = batch(geometry, mode, LENS[mode], kv_dtype=torch.float8_e4m3fn)
    out = run_as(given, kernel)
    assert close(out, expected(given)[0])
    swapped = layer(k_scale=3.0, v_scale=0.5)
    assert not close(out, expected(replace(given, layers=(replace(given.layers[0], geometry=swapped),)))[0])


@pytest.mark.parametrize("kernel", ["trtllm-gen-decode", "trtllm-gen-context", "xqa", "fmha_v2"])
@pytest.mark.parametrize("wrong", [6, 8])
def test_a_window_one_off_shows(kernel: Family, wrong: int) -> None:
    given = batch(sliding(7), "decode", DECODE)
    out = run_as(given, kernel)
    assert close(out, expected(given)[0])
    other = replace(given, layers=(replace(given.layers[0], geometry=sliding(wrong)),))
    assert not close(out, expected(other)[0])


def test_soft_cap_reaches_fmha_v2() -> None:
    given = batch(layer(logits_soft_cap=2.0), "extend", EXTEND)
    assert close(run_as(given, "fmha_v2"), expected(given)[0])
    uncapped = replace(given, layers=(replace(given.layers[0], geometry=layer()),))
    assert not close(run_as(uncapped, "fmha_v2"), expected(given)[0])


@pytest.mark.parametrize("kernel", ["trtllm-gen-decode", "trtllm-gen-context", "xqa", "fmha_v2"])
def test_a_layer_in_the_swa_pool_reads_translated_pages(kernel: Family) -> None:
    given = batch(sliding(20), "decode", DECODE, swa=True, storage="apart")
    out = run_as(given, kernel)
    assert close(out, expected(given)[0])
    untranslated = replace(given, caches=(replace(given.caches[0], pool="full"),))
    assert not close(out, expected(untranslated)[0])


def test_the_other_layout_shows() -> None:
    geometry = layer(num_kv_heads=1, num_qo_heads=3)
    given = batch(geometry, "extend", EXTEND, layout="NHD")
    call = build(given, "trtllm-gen-context")
    call["kv_layout"] = "HND"
    with pytest.raises(contract.ContractViolationError, match="kv_cache has 16 heads under a query of 3"):
        contract.execute("trtllm_batch_context_with_kv_cache", call)


def build(given: Batch, kernel: Family) -> dict[str, Any]:
    """Return every bound argument of the call for ``given``."""
    scratch = workspace(torch.device("cpu"), kernel)
    out = torch.zeros_like(given.layers[0].q)
    call = build_call(kernel, given, 0, build_metadata(given, kernel), workspace=scratch, out=out, lse=None)
    return bind(library.load(call.module, call.function), call.function, call.arguments, VERSION)


def shifted(value: torch.Tensor) -> torch.Tensor:
    changed = value.clone()
    changed[1] += 1
    return changed


BROKEN: dict[str, tuple[Family, str, Callable[[Any], Any]]] = {
    "kv sums": ("trtllm-gen-context", "cum_seq_lens_kv", shifted),
    "kv sums of fmha_v2": ("fmha_v2", "cum_seq_lens_kv", shifted),
    "q sums": ("trtllm-gen-context", "cum_seq_lens_q", lambda value: value + 1),
    "q sums are lengths": ("fmha_v2", "cum_seq_lens_q", lambda value: value[1:]),
    "table of 64 bits": ("trtllm-gen-decode", "block_tables", torch.Tensor.long),
    "table of slots": ("xqa", "block_tables", lambda value: value[0]),
    "batch size": ("trtllm-gen-context", "batch_size", lambda value: value + 1),
    "q_len": ("trtllm-gen-decode", "q_len_per_req", lambda value: value + 1),
    "longest query": ("fmha_v2", "max_q_len", lambda value: value - 1),
    "longest sequence": ("trtllm-gen-context", "max_kv_len", lambda value: value - 6),
    "longest decode": ("xqa", "max_seq_len", lambda value: value - 6),
    "lengths of 64 bits": ("xqa", "seq_lens", torch.Tensor.long),
    "sinks of 16 bits": ("xqa", "sinks", torch.Tensor.half),
    "a layout of no name": ("trtllm-gen-decode", "kv_layout", str.lower),
    "a flat output": ("trtllm-gen-decode", "out", torch.Tensor.flatten),
    "workspace of floats": ("trtllm-gen-decode", "workspace_buffer", torch.Tensor.float),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_argument_is_named(kind: str) -> None:
    kernel, name, damage = BROKEN[kind]
    mode: Mode = "decode" if kernel in {"xqa", "trtllm-gen-decode"} else "extend"
    given = batch(layer(sinks=True), mode, LENS[mode])
    arguments = build(given, kernel)
    arguments[name] = damage(arguments[name])
    with pytest.raises(contract.ContractViolationError) as caught:
        contract.execute("trtllm_fmha_v2_prefill" if kernel == "fmha_v2" else "trtllm_batch", arguments)
    assert caught.value.parameter == name


def test_xqa_needs_its_mask_for_several_query_tokens() -> None:
    arguments = build(batch(layer(), "verify", VERIFY), "xqa")
    assert torch.equal(arguments["mask"], torch.tensor([[1, 0], [3, 0], [7, 0]], dtype=torch.uint16).expand(3, 3, 2))
    with pytest.raises(contract.ContractViolationError, match="mask is needed"):
        contract.execute("trtllm_batch_decode_with_kv_cache", arguments | {"mask": None})
    everything = torch.full_like(arguments["mask"], 7)
    before = arguments["out"].clone()
    contract.execute("trtllm_batch_decode_with_kv_cache", arguments | {"mask": everything, "out": before})
    contract.execute("trtllm_batch_decode_with_kv_cache", arguments)
    assert not torch.equal(before, arguments["out"])


def test_the_mask_spans_words() -> None:
    words = draft_mask(torch.ones(1, 40, 40, dtype=torch.bool).tril())[0].to(torch.int32)
    assert words.shape == (40, 4)
    assert words[0].tolist() == [1, 0, 0, 0]
    assert words[16].tolist() == [0xFFFF, 1, 0, 0]
    assert words[39].tolist() == [0xFFFF, 0xFFFF, 0xFF, 0]


def test_fmha_v2_reads_a_window_only_under_its_mask_mode() -> None:
    arguments = build(batch(sliding(3), "extend", EXTEND), "fmha_v2")
    assert (arguments["mask_mode"], arguments["window_left"]) == ("sliding_window", 3)
    full = build(batch(layer(), "extend", EXTEND), "fmha_v2")
    assert (full["mask_mode"], full["window_left"]) == ("causal", -1)


def test_fmha_v2_copies_pages_only_where_it_must() -> None:
    cases: list[tuple[Storage, bool]] = [("interleaved", False), ("apart", True)]
    for storage, copied in cases:
        given = batch(layer(), "extend", EXTEND, storage=storage)
        scratch = workspace(torch.device("cpu"), "fmha_v2")
        out = torch.zeros_like(given.layers[0].q)
        call = build_call("fmha_v2", given, 0, build_metadata(given, "fmha_v2"), workspace=scratch, out=out, lse=None)
        assert call.copied is copied
        shares = call.arguments["qkv"][1].data_ptr() == given.caches[0].k.data_ptr()
        assert shares is not copied


def test_fmha_v2_does_not_take_values_before_keys_for_keys_before_values() -> None:
    given = batch(layer(), "extend", EXTEND)
    cache = given.caches[0]
    turned = replace(given, caches=(replace(cache, k=cache.v, v=cache.k),))
    assert close(run_as(turned, "fmha_v2"), expected(turned)[0])


@pytest.mark.parametrize("kernel", ["trtllm-gen-decode", "trtllm-gen-context", "xqa", "fmha_v2"])
def test_a_shared_layer_reads_its_owners_cache_with_its_owners_scales(kernel: Family) -> None:
    owner = batch(layer(k_scale=0.5, v_scale=3.0), "decode", DECODE, kv_dtype=torch.float8_e4m3fn)
    cache = owner.caches[0]
    own = replace(cache, k=torch.zeros_like(cache.k), v=torch.zeros_like(cache.v))
    redirected = replace(owner.layers[0], geometry=layer(k_scale=2.0, v_scale=0.25), cache=1)
    shared = replace(owner, layers=(redirected, replace(owner.layers[0], cache=1)), caches=(own, cache))
    assert close(run_as(shared, kernel), expected(owner)[0])


def test_a_request_without_query_tokens_yields_no_row() -> None:
    given = batch(layer(), "extend", [(2, 20), (0, 17), (3, 3)])
    out, _, _ = run(given)
    assert close(out, expected(given)[0])


def test_a_strided_output_is_filled_and_its_surroundings_are_not() -> None:
    given = batch(layer(), "decode", DECODE)
    wide = torch.full((*given.layers[0].q.shape[:2], 2 * HEAD_DIM), 9.0, dtype=torch.bfloat16)
    make(PLATFORM).prepare(given).run(0, wide[..., :HEAD_DIM], None)
    assert close(wide[..., :HEAD_DIM], expected(given)[0])
    assert bool((wide[..., HEAD_DIM:] == 9.0).all())


def test_dead_slots_change_nothing() -> None:
    given = batch(sliding(7), "decode", [(1, 20)])
    before, _, _ = run(given)
    cache = given.caches[0]
    dead = torch.ones(cache.k.shape[0], PAGE, dtype=torch.bool)
    for key in range(20):
        dead[int(given.block_tables[0, key // PAGE]), key % PAGE] = key < 12
    for side in (cache.k, cache.v):
        side.masked_fill_(dead[:, None, :, None], torch.nan)
    after, _, _ = run(given)
    assert torch.equal(before, after)


def test_refusals_come_before_the_call() -> None:
    backend = make(PLATFORM)
    with pytest.raises(UnsupportedError, match="without keys"):
        backend.prepare(batch(layer(), "extend", [(2, 20), (0, 0)]))
    with pytest.raises(UnsupportedError, match="same number of query tokens"):
        backend.prepare(batch(layer(), "verify", [(2, 20), (3, 20)]))
    capped = backend.prepare(batch(layer(logits_soft_cap=30.0), "decode", DECODE))
    with pytest.raises(UnsupportedError, match="soft cap"):
        capped.run(0, torch.empty(4, 6, HEAD_DIM), None)
    given = batch(layer(), "decode", DECODE)
    cache = given.caches[0]
    other = replace(
        given, caches=(replace(cache, v=cache.v.contiguous().transpose(1, 2).contiguous().transpose(1, 2)),)
    )
    with pytest.raises(UnsupportedError, match="one set of strides"):
        backend.prepare(other)


def test_fmha_v2_is_not_given_keys_of_another_dtype() -> None:
    """FlashInfer picks the kernel by the query's dtype and checks no other: 8-bit keys were read as 16-bit ones."""
    given = batch(layer(), "extend", EXTEND)

    def stored_as(dtype: torch.dtype, query: torch.dtype = torch.float16) -> Batch:
        caches = tuple(replace(cache, k=cache.k.to(dtype), v=cache.v.to(dtype)) for cache in given.caches)
        layers = tuple(replace(one, q=one.q.to(query)) for one in given.layers)
        return replace(given, layers=layers, caches=caches)

    refuse_caches(stored_as(torch.float16), "fmha_v2")
    with pytest.raises(UnsupportedError, match="would read float8_e4m3fn keys as float16"):
        refuse_caches(stored_as(torch.float8_e4m3fn), "fmha_v2")
    with pytest.raises(UnsupportedError, match="no module for float32 queries"):  # FlashInfer: KeyError: torch.float32
        refuse_caches(stored_as(torch.float32, torch.float32), "fmha_v2")


def test_no_lse_before_the_version_that_has_it() -> None:
    old = make(Platform(packages={"flashinfer-python": "0.6.10.post1"}))
    given = batch(layer(), "decode", DECODE)
    prepared = old.prepare(given)
    with pytest.raises(UnsupportedError, match="no LSE"):
        prepared.run(0, torch.empty_like(given.layers[0].q), torch.empty(4, 6))


def test_the_names_say_what_a_run_proves() -> None:
    assert (make(PLATFORM).name, make(PLATFORM).evidence) == ("trtllm_mha", "contract")
    for sm in ((9, 0), (10, 0), (10, 3), (12, 0), (12, 1)):
        backend = make(PLATFORM.model_copy(update={"sm": sm}))
        assert (backend.name, backend.evidence) == ("trtllm_mha", "kernel")
    ampere = make(PLATFORM.model_copy(update={"sm": (8, 0)}))
    assert ampere.evidence == "contract"


def test_nothing_runs_for_a_simulated_platform() -> None:
    backend = TrtllmMha(PLATFORM.model_copy(update={"sm": (10, 0), "simulated": True}))
    with pytest.raises(BackendUnavailableError, match="simulated"):
        backend.prepare(batch(layer(), "decode", DECODE))


def test_a_missing_library_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendUnavailableError, match=r"pip install 'flashinfer-python>=0\.6\.10\.post1'"):
        make(Platform())

    def missing(module: str) -> None:
        raise ModuleNotFoundError(module)

    monkeypatch.setattr(importlib, "import_module", missing)
    monkeypatch.delitem(sys.modules, "flashinfer.decode", raising=False)
    with pytest.raises(BackendUnavailableError, match="pip install"):
        make(PLATFORM).prepare(batch(layer(), "decode", DECODE))


def test_an_installed_function_of_another_signature_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(*, query: object, page_table: object) -> None: ...

    monkeypatch.setattr(library, "load", lambda _module, _function: renamed)
    given = batch(layer(), "decode", DECODE)
    with pytest.raises(SignatureMismatchError) as caught:
        make(PLATFORM).prepare(given).run(0, torch.empty_like(given.layers[0].q), None)
    assert caught.value.function == "trtllm_batch_decode_with_kv_cache"


@pytest.mark.parametrize("widths", [(192, 128), (64, 128)])
def test_a_layer_with_values_of_another_width_is_refused_and_the_one_beside_it_runs(widths: tuple[int, int]) -> None:
    from attnconf.cases.case import Case, Paging
    from attnconf.cases.request import Request
    from attnconf.judging.posed import PosedCase
    from attnconf.judging.run import run_case
    from attnconf.platforms import detect

    narrow = Layer(
        kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=widths[0], head_dim_v=widths[1], sm_scale=0.125
    )
    case = Case(
        mode="extend",
        layers=(narrow, narrow.model_copy(update={"head_dim": 128, "head_dim_v": None})),
        requests=(Request(prefix_len=20, new_tokens=5),),
        paging=Paging(page_size=16),
    )
    result = run_case(case, make(detect()), detect(), torch.device("cpu"))
    assert "values" in result.layers[0].reason
    assert [one.outcome.value for one in result.layers] == ["unsupported", "contract_only"], result.layers
    posed = PosedCase(case, torch.device("cpu"))
    with pytest.raises(UnsupportedError, match="values"):
        make(detect()).prepare(posed.batch).run(0, torch.empty(posed.batch.layers[0].out_shape), None)


@pytest.mark.parametrize("mask", ["chunks", "spans"])
def test_a_mask_that_no_argument_says_is_refused(mask: str) -> None:
    from attnconf.cases.case import Case, Paging
    from attnconf.cases.request import Request
    from attnconf.judging.posed import PosedCase
    from attnconf.platforms import detect

    sizes = {"num_qo_heads": 2, "num_kv_heads": 1, "head_dim": 64, "sm_scale": 0.125}
    chunked = Layer(kind="chunked", chunk_size=8, **sizes)
    following = Layer(kind="sliding", window_left=20, spans=True, **sizes)
    case = Case(
        mode="extend",
        layers=(chunked if mask == "chunks" else following,),
        requests=(Request(prefix_len=20, new_tokens=5, spans=((20, 24),)),),
        paging=Paging(page_size=16),
    )
    posed = PosedCase(case, torch.device("cpu"))
    prepared = make(detect()).prepare(posed.batch)
    with pytest.raises(UnsupportedError, match=r"no (chunk size|mask of images)"):
        prepared.run(0, torch.empty_like(posed.batch.layers[0].q), None)
