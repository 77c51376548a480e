"""FlashInfer's wrappers as peers: page lists, calls, declarations. No GPU is needed: stand-ins record the calls."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from attnconf.backends.flashinfer import library
from attnconf.backends.flashinfer.fa import make_fa2, make_fa3
from attnconf.backends.flashinfer.fa.calls import WRAPPERS
from attnconf.backends.flashinfer.fa.indices import host_qo_indptr, page_indices
from attnconf.backends.flashinfer.fa.workspace import workspace_bytes
from attnconf.backends.flashinfer.package import REMEDY
from attnconf.cases.case import Layer
from attnconf.cases.inputs.batch import Batch, KVCache, LayerInputs
from attnconf.errors import BackendUnavailableError, UnsupportedError
from attnconf.platforms import Platform
from conformance.tests.support.shapes import a_shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.flashinfer.fa.backend import FlashInferFa
    from attnconf.backends.flashinfer.fa.variant import Template

    Calls = list[tuple[str, tuple[Any, ...], dict[str, Any]]]
    Install = Callable[..., Calls]

Recorded = dict[str, dict[str, list[str]]]
SIGNATURES: dict[str, Recorded] = json.loads(
    (Path(__file__).parent / "wrapper_signatures.json").read_text(encoding="utf-8")
)
TEMPLATES: tuple[Template, ...] = ("fa2", "fa3")
MAKERS = {"fa2": make_fa2, "fa3": make_fa3}
PAGE = 4


def platform(sm: tuple[int, int] | None = (9, 0), version: str = "0.6.13", cuda: str | None = "13.0") -> Platform:
    return Platform(sm=sm, cuda=cuda, packages={"flashinfer-python": version})


def layer(**changes: object) -> Layer:
    fields: dict[str, object] = {"kind": "full", "num_qo_heads": 6, "num_kv_heads": 2, "head_dim": 64, "sm_scale": 0.5}
    return Layer.model_validate(fields | changes)


def batch(
    layers: list[Layer],
    mode: str = "extend",
    lengths: tuple[tuple[int, int], ...] = ((3, 9), (1, 4)),
    kv_dtype: torch.dtype = torch.bfloat16,
) -> Batch:
    """Return a batch whose requests have (q_len, kv_len); the pages of request r are 10 r + 1, 10 r + 2, ..."""
    q_lens, kv_lens = (tuple(column) for column in zip(*lengths, strict=True))
    columns = max(-(-length // PAGE) for length in kv_lens) + 1
    tables = torch.full((len(lengths), columns), -1, dtype=torch.int32)
    for row, length in enumerate(kv_lens):
        for column in range(-(-length // PAGE)):
            tables[row, column] = 10 * row + column + 1
    pages = 10 * len(lengths) + columns + 1
    caches, inputs = [], []
    for index, geometry in enumerate(layers):
        data = torch.zeros(pages, 2, geometry.num_kv_heads, PAGE, geometry.head_dim).to(kv_dtype)
        caches.append(KVCache(data[:, 0], data[:, 1], "full"))
        q = torch.zeros(sum(q_lens), geometry.num_qo_heads, geometry.head_dim, dtype=torch.bfloat16)
        sinks = torch.zeros(geometry.num_qo_heads) if geometry.sinks else None
        owner = index if geometry.kv_owner is None else geometry.kv_owner
        inputs.append(LayerInputs(geometry, q, sinks, owner, q.dtype))
    return Batch(
        mode=mode,  # type: ignore[arg-type]
        page_size=PAGE,
        kv_layout="HND",
        storage="interleaved",
        qo_indptr=torch.tensor([0, *q_lens]).cumsum(0).to(torch.int32),
        seq_lens=torch.tensor(kv_lens, dtype=torch.int32),
        block_tables=tables,
        full_to_swa=None,
        q_lens=q_lens,
        kv_lens=kv_lens,
        max_q_len=max(q_lens),
        max_seq_len=max(kv_lens),
        layers=tuple(inputs),
        caches=tuple(caches),
    )


DECODE = ((1, 9), (1, 4))


# Page lists


@pytest.mark.parametrize("first", range(10))
@pytest.mark.parametrize("second", [1, 4, 5])
def test_page_lists_at_every_border(first: int, second: int) -> None:
    q_len = min(first, 2)
    given = batch([layer()], lengths=((q_len, first), (1, second)))
    indices = page_indices(given, 0)
    assert {tensor.dtype for tensor in (indices.kv_indptr, indices.kv_indices, indices.kv_last_page_len)} == {
        torch.int32
    }
    assert host_qo_indptr(given).tolist() == given.qo_indptr.tolist()
    for row, kv_len in enumerate(given.kv_lens):
        start, stop = indices.kv_indptr[row : row + 2].tolist()
        owned = indices.kv_indices[start:stop].tolist()
        slots = [(page, slot) for page in owned for slot in range(PAGE)]
        in_last = int(indices.kv_last_page_len[row])
        held = slots[: (len(owned) - 1) * PAGE + in_last] if owned else []
        wanted = [(int(given.block_tables[row, token // PAGE]), token % PAGE) for token in range(kv_len)]
        assert held == wanted
        assert (1 <= in_last <= PAGE) if kv_len else in_last == 0


def test_page_lists_hold_no_tail_of_the_table() -> None:
    given = batch([layer()])
    assert page_indices(given, 0).kv_indices.tolist() == [1, 2, 3, 11]


def test_a_sliding_layer_of_a_hybrid_pool_has_its_own_page_ids() -> None:
    given = batch([layer(), layer(kind="sliding", window_left=3)])
    pages = given.caches[0].k.shape[0]
    slots = torch.arange(pages * PAGE).view(pages, PAGE)
    moved = slots.flip(0).reshape(-1)
    hybrid = replace(given, full_to_swa=moved, caches=(given.caches[0], replace(given.caches[1], pool="swa")))
    assert page_indices(hybrid, 0).kv_indices.tolist() == [1, 2, 3, 11]
    assert page_indices(hybrid, 1).kv_indices.tolist() == [pages - 1 - page for page in (1, 2, 3, 11)]


# Calls


def signature(recorded: dict[str, Any]) -> inspect.Signature:
    """Return the recorded signature, self included."""
    plain = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter("self", plain)]
    parameters += [inspect.Parameter(name, plain) for name in recorded["required"]]
    parameters += [inspect.Parameter(name, plain, default=None) for name in recorded["defaulted"]]
    if recorded["extra"]:
        parameters.append(inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL))
    only = inspect.Parameter.KEYWORD_ONLY
    return inspect.Signature(parameters + [inspect.Parameter(n, only, default=None) for n in recorded["keyword_only"]])


def recorder(version: str, name: str, calls: Calls) -> type:
    """Return a class with the wrapper's signatures of ``version`` that records what it is called with."""

    def method(which: str) -> Callable[..., None]:
        def record(_self: object, *args: object, **kwargs: object) -> None:
            calls.append((f"{name}.{which}", args, kwargs))
            if which == "run":
                kwargs["out"].fill_(7.0)  # type: ignore[attr-defined]

        record.__signature__ = signature(SIGNATURES[version][f"{name}.{which}"])  # type: ignore[attr-defined]
        record.__qualname__ = f"{name}.{which}"
        return record

    made = type(name, (), {which: method(which) for which in ("__init__", "plan", "run")})
    whole = signature(SIGNATURES[version][f"{name}.__init__"])
    made.__signature__ = whole.replace(parameters=list(whole.parameters.values())[1:])  # type: ignore[attr-defined]
    return made


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install recording wrappers with the signatures of a version."""

    def install(version: str = "0.6.13") -> Calls:
        recorded: Calls = []
        real = library.load

        def load(module: str, name: str) -> Any:  # noqa: ANN401
            return recorder(version, name, recorded) if (module, name) in WRAPPERS.values() else real(module, name)

        monkeypatch.setattr(library, "load", load)
        return recorded

    return install


@pytest.mark.parametrize("version", SIGNATURES)
@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("mode", ["decode", "extend"])
@pytest.mark.parametrize("sinks", [False, True])
def test_every_call_binds_in_every_version(
    calls: Install,
    version: str,
    template: Template,
    mode: str,
    *,
    sinks: bool,
) -> None:
    made = calls(version)
    given = batch([layer(sinks=sinks)], mode, DECODE if mode == "decode" else ((3, 9), (1, 4)))
    prepared = MAKERS[template](platform(version=version)).prepare(given)
    out = torch.empty_like(given.layers[0].q)
    kernel = prepared.run(0, out, torch.empty(out.shape[:2]))
    assert bool((out == 7).all())
    wrapper = "Decode" if mode == "decode" and template == "fa2" and not sinks else "Prefill"
    assert [name for name, _, _ in made] == [
        f"Batch{wrapper}WithPagedKVCacheWrapper.{which}" for which in ("__init__", "plan", "run")
    ]
    assert kernel == f"{template}-{wrapper.lower()}" + ("-sinks" if sinks else "")


def run_layer(given: Batch, made: list[Any], index: int = 0, template: Template = "fa2") -> tuple[Any, Any, Any]:
    made.clear()
    prepared = MAKERS[template](platform()).prepare(given)
    out = torch.empty_like(given.layers[index].q)
    prepared.run(index, out, None)
    constructed, planned, ran = made[0], made[2 * index + 1 if len(given.layers) > 1 else 1], made[-1]
    return constructed[2], planned[2], ran


def test_an_extend_is_translated(calls: Install) -> None:
    made = calls()
    given = batch([layer(kind="sliding", window_left=7, logits_soft_cap=30.0)])
    constructed, planned, (_, extra, ran) = run_layer(given, made)
    assert (constructed["backend"], constructed["kv_layout"]) == ("fa2", "HND")
    assert planned["qo_indptr"].tolist() == [0, 3, 4]
    assert planned["paged_kv_indptr"].tolist() == [0, 3, 4]
    assert planned["paged_kv_indices"].tolist() == [1, 2, 3, 11]
    assert planned["paged_kv_last_page_len"].tolist() == [1, 4]
    names = ("num_qo_heads", "num_kv_heads", "head_dim_qk", "page_size", "causal", "window_left", "logits_soft_cap")
    assert [planned[name] for name in names] == [6, 2, 64, PAGE, True, 7, 30.0]
    assert (planned["sm_scale"], planned["q_data_type"], planned["kv_data_type"]) == (0.5, *[torch.bfloat16] * 2)
    assert extra == ()
    assert (ran["lse"], ran["return_lse"], ran["k_scale"], ran["v_scale"]) == (None, False, 1.0, 1.0)
    k, v = ran["paged_kv_cache"]
    assert (k.data_ptr(), v.data_ptr()) == (given.caches[0].k.data_ptr(), given.caches[0].v.data_ptr())


def test_a_decode_on_fa2_uses_the_decode_wrapper_on_tensor_cores(calls: Install) -> None:
    made = calls()
    constructed, planned, _ = run_layer(batch([layer()], "decode", DECODE), made)
    assert constructed["use_tensor_cores"] is True
    assert (planned["indptr"].tolist(), planned["last_page_len"].tolist()) == ([0, 3, 4], [1, 4])
    assert (planned["window_left"], planned["logits_soft_cap"], planned["head_dim"]) == (-1, 0.0, 64)
    assert "causal" not in planned


def test_a_redirected_layer_takes_its_owners_cache_and_scales(calls: Install) -> None:
    made = calls()
    layers = [
        layer(head_dim=128, k_scale=0.25, v_scale=2.0),
        layer(head_dim=128, k_scale=4.0, v_scale=5.0, kv_owner=0, sm_scale=0.75),
    ]
    given = batch(layers, kv_dtype=torch.float8_e4m3fn)
    prepared = make_fa2(platform()).prepare(given)
    for index in (0, 1):
        prepared.run(index, torch.empty_like(given.layers[index].q), None)
    plans = [kwargs for name, _, kwargs in made if name.endswith("plan")]
    ran = made[-1][2]
    assert [plan["sm_scale"] for plan in plans] == [0.5, 0.75]
    assert plans[1]["kv_data_type"] == torch.float8_e4m3fn
    assert (ran["k_scale"], ran["v_scale"]) == (0.25, 2.0)
    assert ran["paged_kv_cache"][0] is given.caches[0].k


def test_an_8_bit_query_brings_its_scales_by_head_and_names_the_answers_dtype(calls: Install) -> None:
    made = calls()
    given = batch([layer(head_dim=128, q_scale=0.5, k_scale=0.25, v_scale=2.0)], kv_dtype=torch.float8_e4m3fn)
    (own,) = given.layers
    given = replace(given, layers=(replace(own, q=own.q.to(torch.float8_e4m3fn), out_dtype=torch.bfloat16),))
    prepared = make_fa3(platform()).prepare(given)
    prepared.run(0, torch.empty(own.q.shape, dtype=torch.bfloat16), None)
    (planned,) = (kwargs for name, _, kwargs in made if name.endswith("plan"))
    _, args, ran = made[-1]
    assert (planned["q_data_type"], planned["o_data_type"]) == (torch.float8_e4m3fn, torch.bfloat16)
    q_scale, k_scale, v_scale = args[2:]
    assert (q_scale.tolist(), k_scale.tolist(), v_scale.tolist()) == ([0.5] * 6, [0.25] * 2, [2.0] * 2)
    assert not {"k_scale", "v_scale"} & set(ran)


def test_sinks_build_their_variant_under_a_name_of_its_own(calls: Install) -> None:
    made = calls()
    windowed = layer(sinks=True, head_dim=128, kind="sliding", window_left=3, k_scale=0.5, v_scale=2.0)
    given = batch([windowed], kv_dtype=torch.float8_e4m3fn)
    constructed, _, (_, args, ran) = run_layer(given, made)
    uri = constructed["jit_args"][0]
    assert all(part in uri for part in ("attention_sink", "head_dim_qk_128", "dtype_kv_e4m3", "use_swa_True"))
    assert constructed["jit_args"][7:12] == [["sink"], ["float"], ["sm_scale"], ["double"], "AttentionSink"]
    assert constructed["jit_kwargs"]["use_sliding_window"] is True
    assert args[0].data_ptr() == given.layers[0].q.data_ptr()
    assert args[2] is given.layers[0].sinks
    assert args[3] == 0.5 * 0.5
    assert ("k_scale" in ran, ran["v_scale"]) == (False, 2.0)


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_workspace_that_others_may_dirty_is_the_one_of_floats(calls: Install, template: Template) -> None:
    made = calls()
    two_kinds = batch([layer(), layer(sinks=True)])
    prepared = MAKERS[template](platform()).prepare(two_kinds)
    for index, each in enumerate(two_kinds.layers):
        prepared.run(index, torch.empty_like(each.q), None)
    (workspace,) = prepared.workspaces()
    given = [kwargs["float_workspace_buffer"] for name, _, kwargs in made if name.endswith("__init__")]
    assert [memory is workspace.memory for memory in given] == [True, True]
    assert workspace.zero_bytes == 0


def test_layers_of_one_kind_share_a_plan(calls: Install) -> None:
    made = calls()
    sliding = layer(kind="sliding", window_left=3)
    given = batch([sliding, layer(), sliding, layer()])
    prepared = make_fa3(platform()).prepare(given)
    for index, each in enumerate(given.layers):
        prepared.run(index, torch.empty_like(each.q), None)
    assert [name.rpartition(".")[2] for name, _, _ in made] == ["__init__", "plan", "run"] * 2 + ["run"] * 2


def test_no_module_is_loaded_before_a_layer_of_its_kind_runs(calls: Install) -> None:
    made = calls()
    given = batch([layer(), layer(kind="sliding", window_left=3)])
    prepared = make_fa2(platform()).prepare(given)
    assert made == []
    prepared.run(1, torch.empty_like(given.layers[1].q), None)
    assert [kwargs["window_left"] for name, _, kwargs in made if name.endswith("plan")] == [3]


def test_a_declined_layer_refuses_and_the_others_run(calls: Install) -> None:
    calls()
    given = batch([layer(head_dim=96), layer()])
    prepared = make_fa2(platform()).prepare(given)
    with pytest.raises(UnsupportedError, match="head_dim 64, 128 or 256, not 96"):
        prepared.run(0, torch.empty_like(given.layers[0].q), None)
    assert prepared.run(1, torch.empty_like(given.layers[1].q), None) == "fa2-prefill"


def test_an_output_with_gaps_is_filled_through_a_copy(calls: Install) -> None:
    made = calls()
    given = batch([layer()])
    wide = torch.zeros(4, 6, 128, dtype=torch.bfloat16)
    make_fa2(platform()).prepare(given).run(0, wide[..., :64], None)
    assert bool((wide[..., :64] == 7).all())
    assert not bool(wide[..., 64:].any())
    assert made[-1][2]["out"].is_contiguous()


def test_batches_that_would_be_misread_are_refused(calls: Install) -> None:
    calls()
    backend = make_fa2(platform())
    with pytest.raises(UnsupportedError, match="without keys"):
        backend.prepare(batch([layer()], lengths=((1, 0), (1, 4))))
    backend.prepare(batch([layer()], lengths=((0, 0), (1, 4))))
    given = batch([layer()])
    apart = replace(given.caches[0], v=given.caches[0].v.contiguous())
    with pytest.raises(UnsupportedError, match="one set of strides"):
        backend.prepare(replace(given, caches=(apart,)))


def test_a_signature_that_changed_is_named(calls: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    calls()
    monkeypatch.setitem(
        SIGNATURES["0.6.13"], "BatchPrefillWithPagedKVCacheWrapper.plan",
        {"required": ["qo_indptr"], "defaulted": [], "keyword_only": [], "extra": False},
    )  # fmt: skip
    with pytest.raises(BackendUnavailableError, match=r"BatchPrefillWithPagedKVCacheWrapper\.plan .*does not take"):
        run_layer(batch([layer()]), [])


@pytest.mark.parametrize("name", list(SIGNATURES["0.6.13"]))
def test_the_installed_wrappers_are_as_recorded(name: str) -> None:
    recorded = SIGNATURES.get(library.version())
    wrapper, method = name.split(".")
    module = next(module for module, known in WRAPPERS.values() if known == wrapper)
    loaded = library.load(module, wrapper)
    # 0.7.2's decode plan passes its keyword arguments on.
    declared = inspect.signature(getattr(loaded, f"_{method}_impl", getattr(loaded, method))).parameters
    if recorded is not None:
        wanted: Any = recorded[name]
        assert [*wanted["required"], *wanted["defaulted"], *wanted["keyword_only"]] == [
            parameter for parameter in declared if parameter not in {"self", "args"}
        ]


def test_the_workspace_fits_the_largest_plan() -> None:
    small, large = batch([layer()]), batch([layer(num_qo_heads=64, num_kv_heads=1)])
    assert workspace_bytes(small, 132) == 128 * 2**20
    assert workspace_bytes(large, 132) >= 2 * 132 * 64 * 128 * 4 * 65


# Declarations


FP8 = {"kv_dtype": "float8_e4m3fn"}
FP32 = {"q_dtype": "float32", "kv_dtype": "float32"}
NEW = "0.7.2.post1"

SUPPORTED: dict[str, tuple[Template, dict[str, Any], str]] = {
    "Gemma 4 sliding, fa2": ("fa2", {"windowed": True}, "0.6.10.post1"),
    "Gemma 4 sliding, fa3": ("fa3", {"windowed": True}, "0.6.10.post1"),
    "gpt-oss": ("fa3", {"head_dim": 64, "sinks": True, "windowed": True}, "0.6.13"),
    "Gemma 2": ("fa2", {"soft_cap": True}, "0.6.13"),
    "fp8 KV": ("fa2", {**FP8, "head_dim": 128}, "0.6.13"),
    "fp16, group 7": ("fa3", {"q_dtype": "float16", "kv_dtype": "float16", "num_qo_heads": 112}, "0.6.13"),
    "pages of 1": ("fa2", {"page_size": 1}, "0.6.13"),
    "pages of 256": ("fa3", {"page_size": 256}, "0.6.13"),
    "padded": ("fa2", {"storage": "padded"}, "0.6.13"),
    "head_dim 512 of 0.7": ("fa2", {"head_dim": 512}, NEW),
}
UNSUPPORTED: dict[str, tuple[Template, dict[str, Any], tuple[int, int] | None, str, str]] = {
    "head_dim 512": ("fa2", {"head_dim": 512}, (9, 0), "0.6.14", "head_dim 512 since flashinfer-python 0.6.15"),
    "head_dim 512 in fp8": ("fa2", {"head_dim": 512, **FP8}, (9, 0), NEW, "KV at head_dim 512"),
    "head_dim 512, fa3": ("fa3", {"head_dim": 512}, (9, 0), NEW, "fa3 takes head_dim 64, 128 or 256, not 512"),
    "head_dim 96": ("fa2", {"head_dim": 96}, (9, 0), NEW, "not 96"),
    "head_dim 192": ("fa2", {"head_dim": 192}, (9, 0), NEW, "not 192"),
    "fp8 answer": (
        "fa2",
        {**FP8, "head_dim": 128, "out_dtype": "float8_e4m3fn"},
        (9, 0),
        NEW,
        "float16 or bfloat16, not",
    ),
    "fp8 query, fa2": ("fa2", {**FP8, "q_dtype": "float8_e4m3fn"}, (9, 0), NEW, "queries, not float8_e4m3fn"),
    "fp8 query, soft cap": (
        "fa3",
        {**FP8, "q_dtype": "float8_e4m3fn", "soft_cap": True},
        (9, 0),
        NEW,
        "no logits soft cap",
    ),
    "fp8 query, sinks": ("fa3", {**FP8, "q_dtype": "float8_e4m3fn", "sinks": True}, (9, 0), NEW, "no sinks under"),
    "fp8 KV, fa3": ("fa3", FP8, (9, 0), NEW, "only under a float8_e4m3fn query"),
    "fp8 KV at head_dim 64": ("fa2", {**FP8, "head_dim": 64}, (9, 0), NEW, "KV at head_dim 64"),
    "float32": ("fa2", FP32, (9, 0), NEW, "not float32"),
    "sinks under a soft cap": ("fa3", {"sinks": True, "soft_cap": True}, (9, 0), NEW, "sink variant of fa3"),
    "B200, fa3": ("fa3", {}, (10, 0), NEW, "fa3 needs exactly SM 9.0, and this is SM 10.0"),
    "Turing": ("fa2", {}, (7, 5), NEW, "needs SM 8.0 or later, and this is SM 7.5"),
    "narrower values": ("fa2", {"head_dim": 192, "head_dim_v": 128}, (9, 0), NEW, "called with values as wide as keys"),
    "narrower values, fa3": ("fa3", {"head_dim": 192, "head_dim_v": 128}, (9, 0), NEW, "HEAD_DIM_QK == HEAD_DIM_VO"),
    "no GPU": ("fa2", {}, None, NEW, "there is none"),
    "an older library": ("fa2", {}, (9, 0), "0.6.9", "0.6.10.post1 or later"),
    "an unreadable version": ("fa2", {}, (9, 0), "from source", "cannot read the version"),
}


def backend_of(template: Template) -> FlashInferFa:
    return MAKERS[template](platform())


@pytest.mark.parametrize("fact", SUPPORTED)
def test_supported(fact: str) -> None:
    template, changes, version = SUPPORTED[fact]
    assert backend_of(template).supports(a_shape(**changes), platform(version=version)) is None


@pytest.mark.parametrize("fact", UNSUPPORTED)
def test_unsupported_with_its_reason(fact: str) -> None:
    template, changes, sm, version, reason = UNSUPPORTED[fact]
    answer = backend_of(template).supports(a_shape(**changes), platform(sm, version))
    assert answer is not None
    assert reason in answer.reason


@pytest.mark.parametrize("sm", [(8, 0), (8, 9), (9, 0), (10, 0), (12, 0)])
def test_fa2_runs_from_ampere_on(sm: tuple[int, int]) -> None:
    assert make_fa2(platform(sm)).supports(a_shape(), platform(sm)) is None


@pytest.mark.parametrize(
    ("template", "machine", "sentence"),
    [
        ("fa2", Platform(), "flashinfer_fa2 needs a CUDA device of SM 8.0 or later, and there is none"),
        ("fa3", Platform(), "flashinfer_fa3 needs a CUDA device of exactly SM 9.0, and there is none"),
        ("fa3", platform((10, 3)), "flashinfer_fa3 needs exactly SM 9.0, and this is SM 10.3"),
        ("fa3", platform(cuda="12.1"), "flashinfer_fa3 needs CUDA 12.3 or later, and this is 12.1"),
        ("fa3", platform(cuda=None), "flashinfer_fa3 needs CUDA 12.3 or later, and its version is unknown"),
        (
            "fa2",
            Platform(sm=(9, 0)),
            "flashinfer_fa2 needs flashinfer-python, which is not installed; remedy: " + REMEDY,
        ),
    ],
)
def test_what_is_missing_is_named(template: Template, machine: Platform, sentence: str) -> None:
    with pytest.raises(BackendUnavailableError) as caught:
        MAKERS[template](machine)
    assert str(caught.value) == sentence


def test_nothing_runs_for_a_simulated_platform() -> None:
    with pytest.raises(BackendUnavailableError, match="simulated"):
        make_fa2(platform().model_copy(update={"simulated": True})).prepare(batch([layer()]))


def test_numerics_and_promises_are_those_of_the_template() -> None:
    fa2, fa3 = (backend_of(template) for template in TEMPLATES)
    assert (fa2.numerics(a_shape()).row_sum, fa2.numerics(a_shape()).partials) == ("bfloat16", "bfloat16")
    assert (fa3.numerics(a_shape()).row_sum, fa3.numerics(a_shape()).partials) == ("float32", None)
    assert {backend.numerics(a_shape()).p for backend in (fa2, fa3)} == {"bfloat16"}
    assert ["nan" in backend.promises.reclaimed_v for backend in (fa2, fa3)] == [True, False]
    assert ["nan" in backend.promises.dead_v for backend in (fa2, fa3)] == [True, True]
    assert {backend.promises.lse for backend in (fa2, fa3)} == {"two"}
    assert [backend.name for backend in (fa2, fa3)] == ["flashinfer_fa2", "flashinfer_fa3"]
