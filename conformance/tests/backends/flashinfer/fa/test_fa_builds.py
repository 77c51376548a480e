"""fa2's and fa3's modules: named as FlashInfer names them, those that its wrappers load, never built in a test."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from packaging.version import Version

from attnconf.backends.builds import Build, Builder, missing_build, unbuilt_reason
from attnconf.backends.flashinfer import library
from attnconf.backends.flashinfer.cache import MANIFEST, VARIABLE, Manifest
from attnconf.backends.flashinfer.fa import make_fa2, make_fa3
from attnconf.backends.flashinfer.fa.build import MODULES, jit_spec
from attnconf.backends.flashinfer.fa.modules import builds, module_name, read
from attnconf.backends.flashinfer.fa.variant import Template, Variant
from attnconf.backends.flashinfer.trtllm_mha import make as make_trtllm_mha
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.drawing.families import FAMILIES
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.request import Request
from attnconf.cli.main import main
from attnconf.errors import BackendUnavailableError, InvalidInputError
from attnconf.judging.posed import PosedCase
from attnconf.judging.result import Outcome
from attnconf.judging.run import run_case
from attnconf.platforms import Platform, simulate
from attnconf.running.planned_shapes import shapes_asked
from attnconf.running.session import Session
from conformance.tests.support.shapes import a_shape

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Put = Callable[..., Path]

MAKERS = {"fa2": make_fa2, "fa3": make_fa3}
HOPPER = simulate("9.0")
SHAPE = a_shape(windowed=True)
VARIANTS = [
    Variant(
        template=template,
        q_dtype=q_dtype,
        kv_dtype=kv_dtype or q_dtype,
        out_dtype=q_dtype,
        head_dim=head_dim,
        head_dim_v=head_dim,
        windowed=windowed,
        soft_cap=features == "soft cap",
        sinks=features == "sinks",
    )
    for template, q_dtype, kv_dtype, head_dim, windowed, features in product(
        ("fa2", "fa3"),
        ("float16", "bfloat16"),
        (None, "float8_e4m3fn"),
        (64, 128, 256, 512),
        (False, True),
        ("plain", "soft cap", "sinks"),
    )
]
COMMON = "dtype_q_bf16_dtype_kv_bf16_dtype_o_bf16_dtype_idx_i32_head_dim_qk_256_head_dim_vo_256"
PLAIN = f"batch_prefill_with_kv_cache_{COMMON}_posenc_0_use_swa_True_use_logits_cap_False_f16qk_False"
SINKS = f"batch_prefill_with_attention_sink_kv_cache_{COMMON}_use_swa_True_"
CAPPED = PLAIN.replace("cap_False", "cap_True").replace("swa_True", "swa_False")
FMHA = "trtllm_fmha_v2_q_paged_kv_hnd_bf16_bf16"


def variant(**changes: object) -> Variant:
    fields: dict[str, Any] = {
        "template": "fa2",
        "q_dtype": "bfloat16",
        "kv_dtype": "bfloat16",
        "head_dim": 256,
        "head_dim_v": changes.get("head_dim", 256),
        "out_dtype": "bfloat16",
    }
    return Variant(**(fields | {"windowed": True, "soft_cap": False, "sinks": False} | changes))


def of_release(version: str, sm: tuple[int, int] = (9, 0), *, simulated: bool = True) -> Platform:
    return Platform(sm=sm, cuda="13.0", packages={"flashinfer-python": version}, simulated=simulated)


# Names


@pytest.mark.parametrize("each", VARIANTS, ids=repr)
def test_the_installed_flashinfer_names_this_variant_so(each: Variant) -> None:
    q_dtype, kv_dtype = getattr(torch, each.q_dtype), getattr(torch, each.kv_dtype)
    common = (each.template, q_dtype, kv_dtype, q_dtype, torch.int32, each.head_dim, each.head_dim, 0, each.windowed)
    if each.sinks:
        given = library.load(MODULES, "get_batch_prefill_attention_sink_uri")(*common)
    else:
        given = library.load(MODULES, "get_batch_prefill_uri")(*common, each.soft_cap, False)  # noqa: FBT003
        by_strides = getattr(library.imported(MODULES), "_get_batch_prefill_module_uri", None)
        if by_strides is not None and each.template == "fa2":
            given = by_strides(given, "fa2", "equal", "full")
    assert module_name(each, Version(library.version())) == given


@pytest.mark.parametrize(
    ("version", "fa2", "fa3"),
    [
        ("0.6.10.post1", PLAIN, f"{PLAIN}_sm90"),
        ("0.6.13", PLAIN, f"{PLAIN}_sm90"),
        ("0.7.2.post1", f"{PLAIN}_kv_stride_equal", f"{PLAIN}_sm90"),
    ],
)
def test_names_as_read_from_three_releases(version: str, fa2: str, fa3: str) -> None:
    release = Version(version)
    assert module_name(variant(), release) == fa2
    assert module_name(variant(template="fa3"), release) == fa3
    assert module_name(variant(sinks=True), release) == SINKS
    assert module_name(variant(template="fa3", sinks=True), release) == f"{SINKS}_sm90"


@pytest.mark.parametrize("version", ["0.6.13", "0.7.2.post1"])
def test_names_read_back_and_no_two_variants_share_one(version: str) -> None:
    names = {module_name(each, Version(version)): each for each in VARIANTS}
    assert len(names) == len(VARIANTS)
    assert {name: read(name) for name in names} == names


@pytest.mark.parametrize(
    "name",
    [
        "",
        "../evil",
        FMHA,
        f"{PLAIN}_more",
        f"{PLAIN}_sm90_kv_stride_equal",
        f"{SINKS}_kv_stride_equal",
        PLAIN.replace("256", "0256"),
        PLAIN.replace("vo_256", "vo_128"),
        PLAIN.replace("o_bf16", "o_f16"),
        PLAIN.replace("posenc_0_", ""),
    ],
)
def test_other_names_read_as_nothing_and_specify_nothing(name: str) -> None:
    assert read(name) is None
    with pytest.raises(InvalidInputError, match="a name of a batch prefill module"):
        jit_spec(name)


WRAPPERS = """
import hashlib, itertools, sys
from importlib.metadata import version
from unittest import mock

import torch

from attnconf.backends.flashinfer import library
from attnconf.backends.flashinfer.fa import make_fa2, make_fa3, modules
from attnconf.backends.flashinfer.fa.build import jit_spec
from attnconf import Case, Layer, Paging, Request
from attnconf.platforms import Platform
from attnconf.cases.shape import kernel_shape
from attnconf.judging.posed import PosedCase

class Asked(Exception):
    pass

def ask(spec):
    asked.append(spec)
    raise Asked

def facts(spec):
    sources = [(str(path), hashlib.sha256(path.read_bytes()).hexdigest()) for path in spec.sources]
    return spec.name, sources, spec.extra_cuda_cflags, spec.extra_cflags, spec.extra_ldflags

platform = Platform(sm=(9, 0), cuda="13.0", packages={"flashinfer-python": version("flashinfer-python")})
asked, empty = [], torch.empty
with (
    mock.patch.object(library.imported("flashinfer.jit.core").JitSpec, "build_and_load", ask),
    mock.patch("torch.empty", lambda *shape, pin_memory=False, **how: empty(*shape, **how)),
    mock.patch("attnconf.backends.flashinfer.fa.workspace._multiprocessors", lambda _: 1),
):
    for make, mode, window, cap, sinks, kv_dtype in itertools.product(
        (make_fa2, make_fa3), ("decode", "extend"), (-1, 7), (None, 30.0), (False, True), ("bfloat16", "float8_e4m3fn")
    ):
        kind, new = "full" if window < 0 else "sliding", 1 if mode == "decode" else 3
        layer = Layer(kind=kind, window_left=window, num_qo_heads=2, num_kv_heads=1, head_dim=128, sm_scale=0.25,
                      logits_soft_cap=cap, sinks=sinks)
        case = Case(mode=mode, kv_dtype=kv_dtype, layers=(layer,), requests=(Request(prefix_len=20, new_tokens=new),),
                    paging=Paging(page_size=8))
        backend, shape = make(platform), kernel_shape(case, 0)
        if backend.supports(shape, platform):
            continue
        batch = PosedCase(case, torch.device("cpu")).batch
        prepared = backend.prepare(batch)
        assert not asked
        try:
            prepared.run(0, torch.empty_like(batch.layers[0].q), None)
        except Asked:
            pass
        (spec,), (build,) = asked, backend.builds([shape])
        assert facts(spec) == facts(jit_spec(build.name)), build.name
        assert (spec.name, len(spec.sources)) == (build.name, build.sources)
        asked.clear()
        print(build.name)
"""


def test_the_installed_wrappers_load_the_module_that_is_built(tmp_path: Path) -> None:
    environment = {"FLASHINFER_CUDA_ARCH_LIST": "9.0", "FLASHINFER_WORKSPACE_BASE": str(tmp_path)}
    run = subprocess.run(  # noqa: S603 - this interpreter, and a script that stands above
        [sys.executable, "-W", "ignore", "-c", WRAPPERS],
        env={**os.environ, **environment, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    names = run.stdout.split()
    # Decode and extend share every module: fa2 has 2 windows x (plain, soft cap, sinks) x 2 KV dtypes, fa3 one dtype.
    assert len(names) == 2 * len(set(names)) == 2 * (12 + 6)


# Plans


@pytest.mark.parametrize("template", ["fa2", "fa3"])
def test_one_module_serves_every_mode_page_layout_and_group(template: Template) -> None:
    same = [
        SHAPE,
        replace(SHAPE, mode="extend", max_q_len=40),
        replace(SHAPE, mode="verify", max_q_len=5),
        replace(SHAPE, page_size=1, kv_layout="NHD", storage="padded"),
        replace(SHAPE, num_kv_heads=4),
    ]
    assert len(builds(template, same, of_release("0.6.13"))) == 1
    distinct = [
        SHAPE,
        replace(SHAPE, windowed=False),
        replace(SHAPE, head_dim=128, head_dim_v=128),
        replace(SHAPE, soft_cap=True),
        replace(SHAPE, sinks=True),
        replace(SHAPE, q_dtype="float16", kv_dtype="float16"),
    ]
    found = builds(template, distinct, of_release("0.6.13"))
    assert len(found) == len(distinct)
    assert list(found) == sorted(found, key=lambda build: build.name)


def test_what_is_not_supported_needs_no_module() -> None:
    hopper = of_release("0.6.13")
    assert builds("fa3", [replace(SHAPE, kv_dtype="float8_e4m3fn"), replace(SHAPE, head_dim=96)], hopper) == ()
    assert builds("fa3", [SHAPE], of_release("0.6.13", (10, 0))) == ()
    assert builds("fa2", [SHAPE], of_release("from source")) == ()


@pytest.fixture(scope="module")
def session() -> Session:
    """Return a session that draws a profile's cases once for both backends."""
    return Session(platform=of_release("0.6.13"), profile=profile_named("smoke"))


@pytest.mark.parametrize(("template", "most"), [("fa2", 24), ("fa3", 18)])
def test_a_profile_needs_few_modules_and_none_starts_by_itself(session: Session, template: Template, most: int) -> None:
    shapes = {
        shape
        for family in FAMILIES
        for model in session.profile.targets(family)
        for shape in shapes_asked(session, [(family, model)], (), f"flashinfer_{template}")
    }
    found = MAKERS[template](session.platform).builds(shapes)
    assert 0 < len(found) <= most
    assert all(build.cpu_seconds > session.build_budget for build in found)


def test_a_plan_imports_no_flashinfer() -> None:
    script = (
        "import sys; from attnconf.backends.flashinfer.fa import make_fa2; from attnconf.platforms import Platform\n"
        "from attnconf.cases.shape import KernelShape\n"
        f"shape = {SHAPE!r}\n"
        "platform = Platform(sm=(9, 0), cuda='13.0', packages={'flashinfer-python': '0.6.13'})\n"
        "assert make_fa2(platform).builds([shape]) and 'flashinfer' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)  # noqa: S603 - this interpreter, and a script above


def test_the_command_prints_the_names_without_a_gpu(
    places: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnconf.platforms.installed_packages", lambda: {"flashinfer-python": "0.6.13"})
    asked = ["--profile", "smoke", "--family", "decode", "--model", "gemma4-e2b", "--backend", "flashinfer_fa2"]
    command = ["build", "--dry-run", "--sm", "9.0", "--jobs", "16", *asked]
    assert main([*command, "--budget", "inf"]) == 0
    counts, *names = capsys.readouterr().out.splitlines()
    assert counts.startswith(f"{len(names)} kernel modules for these tests, 0 cached, about")
    assert names
    assert all(read(name) for name in names)
    assert main(command) == 0
    beyond = [f"not run without {name}, which is not built (about 6 CPU minutes)" for name in names]
    assert capsys.readouterr().out.splitlines()[1:] == beyond
    assert not places.FLASHINFER_JIT_DIR.exists()


# Builds


@pytest.mark.parametrize("template", ["fa2", "fa3"])
def test_a_missing_module_is_named_with_its_price(template: Template, places: SimpleNamespace, put: Put) -> None:
    backend = MAKERS[template](of_release("0.6.13"))
    assert isinstance(backend, Builder)
    (build,) = backend.builds([SHAPE])
    minutes = {"fa2": 6, "fa3": 17}[template]
    why = f"its kernel module {build.name} is not built (about {minutes} CPU minutes; attnconf build --module"
    missing = missing_build(backend, SHAPE)
    assert missing is not None
    assert unbuilt_reason(missing).startswith(why)
    assert missing_build(backend, SHAPE, budget=1000.0) is None
    put(places.FLASHINFER_JIT_DIR, build.name)
    assert missing_build(backend, SHAPE) is None


def test_a_layer_without_its_module_is_not_run_and_no_other_layer_compiles_it(
    places: SimpleNamespace, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[int] = []

    class Wrapper:
        def __init__(self, **_: object) -> None: ...

        def plan(self, **arguments: int) -> None:
            planned.append(arguments["window_left"])

        def run(self, **arguments: torch.Tensor) -> None:
            arguments["out"].zero_()
            arguments["lse"].zero_()

    monkeypatch.setattr(library, "load", lambda *_: Wrapper)
    put(places.FLASHINFER_JIT_DIR, PLAIN)
    heads = {"num_qo_heads": 2, "num_kv_heads": 1, "head_dim": 256, "sm_scale": 0.25}
    layers = [Layer(kind="sliding", window_left=7, **heads), Layer(kind="full", logits_soft_cap=30.0, **heads)]  # type: ignore[arg-type]
    case = Case(
        mode="extend",
        q_dtype="bfloat16",
        kv_dtype="bfloat16",
        layers=tuple(layers),
        requests=(Request(prefix_len=20, new_tokens=3), Request(prefix_len=5, new_tokens=3)),
        paging=Paging(page_size=8),
    )
    machine = of_release("0.6.13", simulated=False)
    result = run_case(case, make_fa2(machine), machine, torch.device("cpu"))
    assert result.layers[1].outcome is Outcome.NOT_RUN
    assert f"its kernel module {CAPPED} is not built" in str(result.layers[1].reason)
    assert result.layers[0].kernel == "fa2-prefill"
    assert set(planned) == {7}


def test_modules_of_both_families_are_carried_in_one_folder(
    places: SimpleNamespace, put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "carried"
    hopper = of_release("0.6.13")
    makers = {FMHA: make_trtllm_mha, PLAIN: make_fa2, f"{SINKS}_sm90": make_fa3}
    for name, make in makers.items():
        put(places.FLASHINFER_JIT_DIR, name, name.encode())
        make(hopper).export([Build(name, 1.0)], folder)
    assert set(Manifest.read(folder / MANIFEST).modules) == set(makers)

    places.FLASHINFER_JIT_DIR = tmp_path / "another machine"
    assert not make_fa2(hopper).is_built(Build(PLAIN, 1.0))
    monkeypatch.setenv(VARIABLE, str(folder))
    for name, make in makers.items():
        assert make(hopper).is_built(Build(name, 1.0))
        assert (places.FLASHINFER_AOT_DIR / name / f"{name}.so").read_bytes() == name.encode()
    with pytest.raises(BackendUnavailableError, match=r"made for flashinfer-python 0\.6\.13, and this is 0\.7\.2"):
        make_fa2(of_release("0.7.2.post1"))


def test_a_batch_that_is_prepared_finds_the_carried_modules(
    places: SimpleNamespace, put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(places.FLASHINFER_JIT_DIR, PLAIN)
    make_fa2(of_release("0.6.13")).export([Build(PLAIN, 1.0)], tmp_path / "carried")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "carried"))
    backend = make_fa2(of_release("0.6.13", simulated=False))
    layer = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=64, sm_scale=0.25)
    case = Case(mode="decode", layers=(layer,), requests=(Request(prefix_len=3),))
    backend.prepare(PosedCase(case, torch.device("cpu")).batch)
    assert (places.FLASHINFER_AOT_DIR / PLAIN / f"{PLAIN}.so").exists()


def test_missing_modules_are_built_by_their_names(
    places: SimpleNamespace, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spec(name: str) -> SimpleNamespace:
        assert read(name) is not None
        return SimpleNamespace(name=name, build=lambda **_: put(places.FLASHINFER_JIT_DIR, name))

    monkeypatch.setattr("attnconf.backends.flashinfer.fa.backend.jit_spec", spec)
    backend = make_fa2(of_release("0.6.13"))
    wanted = backend.builds([SHAPE, replace(SHAPE, windowed=False, soft_cap=True), replace(SHAPE, sinks=True)])
    put(places.FLASHINFER_JIT_DIR, PLAIN)
    report = backend.build(wanted, 16, lambda _: None)
    assert (set(report.built), report.cached, report.failures) == ({SINKS, CAPPED}, (PLAIN,), {})
    assert all(backend.is_built(build) for build in wanted)
