"""Keys and values of 4 bits with scales of blocks: how they are stored, who reads them, and who declines them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from packaging.version import Version

from attnconf.backends.engines.sglang.capability import triton_supports as sglang_supports
from attnconf.backends.engines.vllm.capability import supports as vllm_supports
from attnconf.backends.flashinfer.fa import capability as fa
from attnconf.backends.flashinfer.fa.calls import plan_arguments, plan_key, run_arguments
from attnconf.backends.flashinfer.fa.indices import page_indices
from attnconf.backends.flashinfer.fa.modules import module_name, read
from attnconf.backends.flashinfer.fa.variant import variant_of_layer, variant_of_shape
from attnconf.backends.flashinfer.trtllm_gen.shapes import names
from attnconf.backends.flashinfer.trtllm_mha import capability as trtllm
from attnconf.backends.flashinfer.trtllm_mha import make as make_trtllm
from attnconf.backends.flashinfer.trtllm_mha.blocks import scale_pools
from attnconf.backends.flashinfer.trtllm_mha.calls import build_call, build_metadata
from attnconf.backends.flashinfer.trtllm_mha.contract import ContractViolationError, execute
from attnconf.backends.reference import make as make_reference
from attnconf.backends.torch_sdpa import make as make_sdpa
from attnconf.backends.triton import make as make_triton
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.drawing.draws import Draws
from attnconf.cases.drawing.families import space_of
from attnconf.cases.drawing.scales import GLOBAL_K_SCALES, GLOBAL_V_SCALES
from attnconf.cases.dtypes import FP8, NVFP4
from attnconf.cases.inputs.layout import place
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.inputs.poison import bits
from attnconf.cases.inputs.stored import packed, parts_of
from attnconf.cases.request import Request
from attnconf.cases.shape import batch_shape, kernel_shape
from attnconf.judging.checks.siblings import siblings
from attnconf.judging.execution import same_bits
from attnconf.judging.posed import PosedCase
from attnconf.judging.run import run_case
from attnconf.oracle.packed import numbers
from attnconf.platforms import Platform, detect
from attnconf.policy.requirements import Requirement
from conformance.tests.support.shapes import a_shape

CPU = torch.device("cpu")
MAKERS = {"reference": make_reference, "torch_sdpa": make_sdpa, "triton": make_triton}
LAYER = Layer(
    kind="sliding", window_left=30, num_qo_heads=4, num_kv_heads=2, head_dim=64, sm_scale=0.125,
    k_scale=0.5, v_scale=16.0,
)  # fmt: skip
MAGNITUDES = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]


def make(layer: Layer = LAYER, mode: str = "extend", **changes: object) -> Case:
    new = 1 if mode == "decode" else 5
    given = {
        "mode": mode,
        "kv_dtype": NVFP4,
        "layers": (layer,),
        "requests": (Request(prefix_len=60, new_tokens=new), Request(prefix_len=7, new_tokens=new)),
        "paging": Paging(page_size=16, layout="HND"),
        "seed": 3,
    }
    return Case(**{**given, **changes})


def on(sm: tuple[int, int] | None, version: str = "0.6.18.post1", cuda: str = "12.8") -> Platform:
    packages = {"flashinfer-python": version, "triton": "3.6.0", "sglang": "0.5.23", "vllm": "0.33.0"}
    return Platform(sm=sm, cuda=cuda, packages=packages, simulated=True)


@pytest.mark.parametrize("mode", ["extend", "decode"])
@pytest.mark.parametrize("storage", ["apart", "interleaved", "sliced", "unlike"])
@pytest.mark.parametrize("name", MAKERS)
def test_numbers_of_4_bits_are_read(name: str, storage: str, mode: str) -> None:
    layout = "NHD" if mode == "decode" else "HND"
    case = make(mode=mode, paging=Paging(page_size=16, layout=layout, storage=storage), poison={"k": "nan", "v": "nan"})
    if name == "torch_sdpa":
        case = case.model_copy(update={"poison": make().poison})
    (layer,) = run_case(case, MAKERS[name](detect()), detect(), CPU).layers
    assert layer.outcome.value == "passed", layer
    assert {"block_scales", "kv_format", "k_scale", "v_scale"} <= set(layer.effective)


@pytest.mark.parametrize("name", ["reference", "triton"])
@pytest.mark.parametrize("out_dtype", ["bfloat16", FP8])
def test_queries_and_answers_of_8_bits_stand_over_them(name: str, out_dtype: str) -> None:
    case = make(LAYER.model_copy(update={"q_scale": 0.25, "out_scale": 0.02}), q_dtype=FP8, out_dtype=out_dtype)
    assert not run_case(case, MAKERS[name](detect()), detect(), CPU).is_failure


def test_every_byte_has_two_numbers_the_first_one_in_its_low_bits() -> None:
    signed = [*MAGNITUDES, *(-one for one in MAGNITUDES)]
    rows = torch.zeros(256, 1, 9, dtype=torch.uint8)
    rows[:, 0, 0] = torch.arange(256)
    rows[:, 0, 8] = 0x40  # 2 in e4m3
    found = numbers(rows)
    assert found.shape == (256, 1, 16)
    assert found[:, 0, 0].tolist() == [2.0 * signed[byte % 16] for byte in range(256)]
    assert found[:, 0, 1].tolist() == [2.0 * signed[byte // 16] for byte in range(256)]


def test_each_16_numbers_have_a_scale_and_every_scale_is_exact() -> None:
    rows = torch.full((256, 1, 18), 0x22, dtype=torch.uint8)  # ones
    rows[:, 0, 16], rows[:, 0, 17] = torch.arange(256), 0x38
    found = numbers(rows)[:, 0]
    scales = torch.arange(256).to(torch.uint8).view(torch.float8_e4m3fn).double()
    assert torch.equal(found[:, :16].nan_to_num(), scales[:, None].expand(-1, 16).nan_to_num())
    assert bool((found[:, 16:] == 1.0).all())


def test_packing_takes_the_nearest_number_and_the_largest_becomes_6() -> None:
    drawn = torch.randn(40, 3, 48, generator=torch.Generator().manual_seed(1))
    rows = packed(drawn)
    assert rows.shape == (40, 3, 27)
    pairs, scales = parts_of(rows)
    assert (pairs.shape, scales.shape, scales.dtype) == ((40, 3, 24), (40, 3, 3), torch.float8_e4m3fn)
    wide = scales.double().repeat_interleave(16, dim=-1)
    of_4_bits = torch.tensor([*MAGNITUDES, *(-one for one in MAGNITUDES)], dtype=torch.float64)
    least = (of_4_bits * wide[..., None] - drawn.double()[..., None]).abs().amin(dim=-1)
    assert torch.equal((numbers(rows) - drawn.double()).abs(), least)
    assert bool((numbers(rows).view(40, 3, 3, 16).abs().amax(dim=-1) == 6.0 * scales.double()).all())


@pytest.mark.parametrize("scale", sorted({*GLOBAL_K_SCALES, *GLOBAL_V_SCALES}))
def test_global_scales_bring_those_of_blocks_to_both_ends_of_e4m3(scale: float) -> None:
    logical = make_logical(make(LAYER.model_copy(update={"k_scale": scale, "v_scale": 3.0})))
    _, scales = parts_of(logical.layers[0].k)
    assert bool(scales.float().isfinite().all())
    if scale == min(GLOBAL_V_SCALES):
        assert float(scales.float().max()) == 448.0
    if scale == max(GLOBAL_V_SCALES):
        assert float(scales.float().max()) < 2.0**-5


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"q_dtype": "float32"}, "kv_dtype nvfp4 needs a q_dtype of 16 or 8 bits"),
        ({"poison": {"k": "inf"}}, "nvfp4 has no infinity to poison with"),
        (
            {"layers": (LAYER.model_copy(update={"head_dim": 72}),)},
            "layer 0: kv_dtype nvfp4 needs a head_dim that 16 divides, not 72",
        ),
        (
            {"layers": (LAYER.model_copy(update={"head_dim_v": 24}),)},
            "layer 0: kv_dtype nvfp4 needs a head_dim_v that 16 divides, not 24",
        ),
    ],
)
def test_what_cannot_be_stored_so_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make(**changes)


@pytest.mark.parametrize("storage", ["apart", "interleaved", "padded", "sliced", "unlike"])
@pytest.mark.parametrize("layout", ["NHD", "HND"])
def test_block_scales_have_pools_of_their_own_with_the_same_pages(storage: str, layout: str) -> None:
    case = make(paging=Paging(page_size=16, layout=layout, storage=storage), poison={"k": "nan", "v": "huge"})
    posed = PosedCase(case, CPU)
    (cache,) = posed.batch.caches
    assert batch_shape(posed.batch, 0).kv_dtype == kernel_shape(case, 0).kv_dtype == NVFP4
    for pool, scales in ((cache.k, cache.k_block_scales), (cache.v, cache.v_block_scales)):
        assert (pool.dtype, scales.dtype) == (torch.uint8, torch.float8_e4m3fn)
        assert pool.shape[:3] == scales.shape[:3]
        assert (pool.shape[3], scales.shape[3]) == (32, 4)
        assert pool.untyped_storage().data_ptr() != scales.untyped_storage().data_ptr()
    one = cache.k_block_scales.untyped_storage().data_ptr() == cache.v_block_scales.untyped_storage().data_ptr()
    assert one is (storage in {"interleaved", "sliced"})
    # the null page is dead: its keys are NaN by their scales, its values as large as they can be
    assert bool(cache.k_block_scales[0].float().isnan().all())
    assert bool((cache.v_block_scales[0].float() == 448.0).all())
    assert bool((cache.v[0] == 0x77).all())


def test_a_write_into_block_scales_is_seen() -> None:
    posed = PosedCase(make(), CPU)
    names = {name for name, _ in posed.batch.tensors()}
    assert {"caches[0].k_block_scales", "caches[0].v_block_scales"} <= names
    held = [memory.data_ptr() for _, memory in posed.batch.memory()]
    assert posed.batch.caches[0].k_block_scales.untyped_storage().data_ptr() in held


def test_a_call_over_4_bits_has_a_sibling_over_8() -> None:
    other = dict(siblings(make(), 0))["the format of keys and values"]
    assert (other.kv_dtype, other.layers[0].k_scale) == (FP8, LAYER.k_scale)


@pytest.mark.parametrize(("family", "model"), [("free", "free"), ("decode", "gemma4-e2b")])
@pytest.mark.parametrize("accelerated", [False, True])
def test_the_format_alone_is_drawn_where_it_is_asked_for(family: str, model: str, *, accelerated: bool) -> None:
    space = space_of(family, model, accelerated=accelerated, max_kv_len=100, kv_dtype=NVFP4)
    cases = Draws(space, 1, 20).cases
    assert {case.kv_dtype for case in cases} == {NVFP4}
    assert {case.q_dtype for case in cases} >= {"bfloat16", FP8}


def test_it_is_drawn_now_and_then() -> None:
    cases = Draws(space_of("free", "free", accelerated=False, max_kv_len=100), 1, 200).cases
    share = sum(case.kv_dtype == NVFP4 for case in cases) / len(cases)
    assert 0.02 < share < 0.2


def test_a_policy_may_require_it() -> None:
    requirement = Requirement(
        architectures=("A",),
        models=("llama3-8b",),
        layer_kinds=("full",),
        modes=("decode",),
        dtypes=("bfloat16+nvfp4",),
        effective={"full": ("block_scales",)},
    )
    (cell,) = requirement.cells(prefill="triton", decode="triton")
    assert cell.dtypes == make().dtypes.text


def test_a_request_without_a_key_has_rows_of_no_numbers() -> None:
    rows = packed(torch.zeros(0, 2, 32))
    assert (rows.shape, numbers(rows).shape) == ((0, 2, 18), (0, 2, 32))


@pytest.mark.parametrize("storage", ["padded", "interleaved"])
def test_block_scales_are_copied_with_their_pages_under_other_ids(storage: str) -> None:
    case = make(paging=Paging(page_size=8, storage=storage), poison={"k": "nan", "v": "nan"})
    posed = PosedCase(case, CPU)
    layout = place(case, salt=1)
    (cache,) = posed.copied_batch(layout).caches
    page, slot = layout.places("full")[1]
    for pools, rows in (
        ((cache.k, cache.k_block_scales), posed.logical.layers[0].k),
        ((cache.v, cache.v_block_scales), posed.logical.layers[0].v),
    ):
        for pool, part in zip(pools, parts_of(rows), strict=True):
            assert same_bits(pool[page, slot], part)
    dead = (layout.tokens("full") < 0).view(len(cache.k), -1)
    assert bool(cache.v_block_scales[dead].float().isnan().all())


@pytest.mark.parametrize(
    ("template", "changes", "reason"),
    [
        ("fa2", {}, None),
        ("fa2", {"head_dim": 256, "head_dim_v": 256}, None),
        ("fa2", {"head_dim": 64, "head_dim_v": 64}, "at head_dim 128 or 256, not 64"),
        ("fa2", {"sinks": True}, "the sink variant of fa2 is built without the scales of blocks"),
        ("fa3", {}, "fa3 has no kernels over nvfp4 KV"),
    ],
)
def test_fa2_reads_4_bits_where_flashinfer_builds_it(template: str, changes: dict, reason: str | None) -> None:
    shape = a_shape(**{"kv_dtype": NVFP4, "head_dim": 128, "head_dim_v": 128, "windowed": False, **changes})
    found = fa.supports(variant_of_shape(template, shape), on((9, 0)))
    assert found is None if reason is None else reason in found.reason


@pytest.mark.parametrize(("version", "cuda"), [("0.6.13", "12.8"), ("0.6.18.post1", "12.6")])
def test_fa2_says_what_it_lacks_for_4_bits(version: str, cuda: str) -> None:
    shape = a_shape(kv_dtype=NVFP4, head_dim=128, head_dim_v=128)
    assert "for nvfp4 KV" in fa.supports(variant_of_shape("fa2", shape), on((9, 0), version, cuda)).reason


@pytest.mark.parametrize("version", ["0.6.18.post1", "0.7.2"])
def test_the_name_of_fa2s_module_over_4_bits_is_read_as_it_is_written(version: str) -> None:
    shape = a_shape(kv_dtype=NVFP4, head_dim=128, head_dim_v=128, page_size=16)
    name = module_name(variant_of_shape("fa2", shape), Version(version))
    assert "_dtype_kv_fp4x2_e2m1_" in name
    assert read(name) == variant_of_shape("fa2", shape)


def test_fa2_is_handed_both_pools_of_block_scales() -> None:
    layer = LAYER.model_copy(update={"head_dim": 128})
    batch = PosedCase(make(layer), CPU).batch
    out = torch.empty(batch.layers[0].out_shape, dtype=torch.bfloat16)
    arguments, beyond = run_arguments(batch, 0, out, None)
    (cache,) = batch.caches
    assert arguments["kv_cache_sf"] == (cache.k_block_scales, cache.v_block_scales)
    assert (arguments["k_scale"], arguments["v_scale"], beyond) == (0.5, 16.0, ())
    key = plan_key(batch, 0, variant_of_layer("fa2", batch, 0))
    assert plan_arguments(batch, key, "prefill", page_indices(batch, 0))["kv_data_type"] is torch.uint8


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"mode": "extend"}, None),
        ({"q_dtype": "bfloat16", "out_dtype": "bfloat16"}, "only under a float8_e4m3fn query, and answers in"),
        ({"kv_layout": "NHD"}, "of layout NHD copied as a whole"),
        ({"storage": "sliced"}, "in a row, and storage sliced has others between"),
        ({"head_dim": 512, "head_dim_v": 512}, "not 512"),
    ],
)
def test_trtllm_gen_reads_4_bits_as_its_list_has_it(changes: dict, reason: str | None) -> None:
    given = {"q_dtype": FP8, "out_dtype": FP8, "head_dim": 128, "head_dim_v": 128, "page_size": 16, **changes}
    found = trtllm.supports(a_shape(kv_dtype=NVFP4, **given), on(None))
    assert found is None if reason is None else reason in found.reason


def test_the_kernels_list_names_4_bits_under_8_bit_queries_and_answers() -> None:
    b200 = on((10, 0), "0.6.13")
    listed = a_shape(kv_dtype=NVFP4, q_dtype=FP8, out_dtype=FP8, head_dim=128, head_dim_v=128, page_size=64)
    assert {name[:39] for name in names(listed, b200)} == {"fmhaSm100aKernel_QE4m3KvE2m1OE4m3H128Pa"}
    assert not names(replace(listed, out_dtype="bfloat16"), b200)


def test_trtllm_gen_is_handed_scales_of_values_by_four_tokens() -> None:
    layer = LAYER.model_copy(update={"q_scale": 0.25, "out_scale": 0.02})
    case = make(layer, mode="decode", q_dtype=FP8, out_dtype=FP8)
    (cache,) = PosedCase(case, CPU).batch.caches
    k, v = scale_pools(cache)
    assert k is cache.k_block_scales
    count, (tile, own) = v.shape[3], (bits(v)[1, 1].flatten(), bits(cache.v_block_scales)[1, 1])
    for token in range(16):
        for scale in range(count):
            assert tile[token // 4 * 4 * count + scale * 4 + token % 4] == own[token, scale]
    (result,) = run_case(case, make_trtllm(detect()), detect(), CPU).layers
    assert result.outcome.value == "contract_only", result
    assert "block_scales" in result.effective


@pytest.mark.parametrize("dropped", ["kv_cache_sf", "sliced"])
def test_the_contract_refuses_pools_of_scales_that_no_kernel_reads(dropped: str) -> None:
    layer = LAYER.model_copy(update={"q_scale": 0.25, "out_scale": 0.02})
    batch = PosedCase(make(layer, mode="decode", q_dtype=FP8, out_dtype=FP8), CPU).batch
    workspace = torch.zeros(1, dtype=torch.uint8)
    out = torch.zeros(batch.layers[0].out_shape, dtype=torch.float8_e4m3fn)
    kernel = "trtllm-gen-decode"
    call = build_call(kernel, batch, 0, build_metadata(batch, kernel), workspace=workspace, out=out, lse=None)
    wide = torch.zeros((*batch.caches[0].k_block_scales.shape[:3], 8), dtype=torch.uint8).view(torch.float8_e4m3fn)
    wrong = None if dropped == "kv_cache_sf" else (wide[..., :4], wide[..., 4:])
    with pytest.raises(ContractViolationError, match="kv_cache_sf"):
        execute(call.function, {**call.arguments, "kv_cache_sf": wrong})


@pytest.mark.parametrize(("sm", "mode"), [((9, 0), "decode"), ((9, 0), "extend"), ((12, 0), "decode")])
def test_no_kernel_of_tensorrt_llm_is_handed_4_bits(sm: tuple[int, int], mode: str) -> None:
    shape = a_shape(kv_dtype=NVFP4, mode=mode, head_dim=128, head_dim_v=128, page_size=16)
    assert "nvfp4" in trtllm.supports(shape, on(sm)).reason


def test_engines_say_what_they_do_with_it() -> None:
    shape = a_shape(kv_dtype=NVFP4, q_dtype="float16", head_dim=128, head_dim_v=128, storage="sliced", page_size=16)
    assert "nvfp4" in sglang_supports(shape, on(None)).reason
    assert "trtllm-gen on SM 10.x" in vllm_supports(shape, on(None)).reason


def test_a_case_of_it_is_written_and_read() -> None:
    case = make()
    data = case.to_data()
    assert data["kv_dtype"] == NVFP4
    assert Case.model_validate(data) == case
