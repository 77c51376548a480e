"""Kernel modules: named as the installed FlashInfer names them, few enough for a profile, and carried in a folder."""

from __future__ import annotations

import json
import lzma
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from attnconf.backends.builds import Build, missing_build, unbuilt_reason, wall_seconds
from attnconf.backends.flashinfer.cache import MANIFEST, VARIABLE, Manifest
from attnconf.backends.flashinfer.trtllm_mha import make, variants
from attnconf.backends.flashinfer.trtllm_mha.variants import FmhaV2, Variant, Xqa, read
from attnconf.cases.drawing.families import FAMILIES
from attnconf.cases.drawing.profiles import GEMMA4, profile_named
from attnconf.cases.shape import KernelShape
from attnconf.errors import BackendUnavailableError, InvalidInputError
from attnconf.platforms import Platform, simulate
from attnconf.running.planned_shapes import shapes_asked
from attnconf.running.session import Session
from conformance.tests.support.shapes import a_shape

if TYPE_CHECKING:
    from collections.abc import Callable

    Put = Callable[..., Path]

DECODE = a_shape(windowed=True)
EXTEND = replace(DECODE, mode="extend", max_q_len=40)
FP16 = replace(DECODE, q_dtype="float16", kv_dtype="float16", out_dtype="float16")
PLAIN = replace(DECODE, windowed=False)
SHAPES = {
    "decode, windowed": DECODE,
    "decode, full": PLAIN,
    "fp8 KV": replace(DECODE, kv_dtype="float8_e4m3fn"),
    "fp16 over fp8": replace(DECODE, q_dtype="float16", out_dtype="float16", kv_dtype="float8_e4m3fn", page_size=128),
    "fp16, group 7": replace(FP16, num_qo_heads=14, num_kv_heads=2, head_dim=128),
    "verify of 5": replace(PLAIN, mode="verify", max_q_len=5),
    "verify past 32 rows": replace(PLAIN, mode="verify", max_q_len=8, num_qo_heads=16, num_kv_heads=1),
    "extend": EXTEND,
    "mixed, NHD, fp16": replace(FP16, mode="mixed", max_q_len=40, kv_layout="NHD"),
}
LONG = "trtllm_fmha_v2_q_paged_kv_hnd_bf16_bf16"
HOPPER = simulate("9.0")

NAMES = """
import sys, torch
from attnconf.backends.flashinfer.trtllm_mha.build import jit_spec
for name in sys.argv[1:]:
    spec = jit_spec(name)
    print(spec.name, len(spec.sources))
"""


def module(shape: KernelShape) -> Variant:
    found = variants.variant(shape, "sm90")
    assert found is not None
    return found


@pytest.mark.parametrize("sm", ["9.0", "12.0"])
def test_the_installed_flashinfer_gives_these_modules_these_names(sm: str, tmp_path: Path) -> None:
    machine = simulate(sm)
    sources = {build.name: build.sources for build in variants.builds(SHAPES.values(), machine)}
    assert len(sources) >= len(SHAPES) - 2
    environment = {**os.environ, "FLASHINFER_CUDA_ARCH_LIST": sm, "FLASHINFER_WORKSPACE_BASE": str(tmp_path)}
    run = subprocess.run(  # noqa: S603 - this interpreter, and a script that stands above
        [sys.executable, "-W", "ignore", "-c", NAMES, *sources],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    given = dict(line.split() for line in run.stdout.splitlines())
    assert list(given) == list(sources)
    if sm == "9.0":  # what the estimates stand on
        assert {name: int(count) for name, count in given.items()} == sources


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_name_reads_back(shape: KernelShape) -> None:
    assert read(module(shape).name) == module(shape)


@pytest.mark.parametrize("name", ["", "../evil", "xqa", f"{LONG}_more", module(DECODE).name.replace("256", "0256")])
def test_other_names_read_as_nothing(name: str) -> None:
    assert read(name) is None


def test_a_layout_is_part_of_fmha_v2s_module_and_not_of_xqas() -> None:
    assert module(DECODE) == module(replace(DECODE, kv_layout="NHD"))
    assert module(EXTEND) == FmhaV2("HND", "bfloat16", "bfloat16")
    assert module(replace(EXTEND, kv_layout="NHD")) == FmhaV2("NHD", "bfloat16", "bfloat16")
    assert module(DECODE) == Xqa("bfloat16", "bfloat16", "bfloat16", 16, 256, 2, windowed=True, q_len=1)


def test_nothing_is_built_where_kernels_come_compiled_or_none_runs() -> None:
    assert variants.builds(SHAPES.values(), simulate("10.0")) == ()
    assert make(Platform(packages=HOPPER.packages)).builds(SHAPES.values()) == ()
    assert variants.builds([replace(DECODE, head_dim=1024)], HOPPER) == ()


@pytest.mark.parametrize(("profile", "most_xqa", "most_xqa_of_gemma4"), [("smoke", 40, 30), ("gate", 180, 30)])
def test_a_profile_needs_few_modules(profile: str, most_xqa: int, most_xqa_of_gemma4: int) -> None:
    # Of one release: the next ones have more kernels, and so more modules.
    machine = HOPPER.model_copy(update={"packages": {**HOPPER.packages, "flashinfer-python": "0.6.13"}})
    session = Session(platform=machine, profile=profile_named(profile))
    asked = [(family, model) for family in FAMILIES for model in session.profile.targets(family)]
    shapes = {one: frozenset(shapes_asked(session, [one], (), "trtllm_mha")) for one in asked}
    gemma4 = [
        shapes[family, model] for family, model in asked if model in GEMMA4
    ]  # drawn as in a profile of them alone
    for chosen, most in ((shapes.values(), most_xqa), (gemma4, most_xqa_of_gemma4)):
        builds = variants.builds(frozenset().union(*chosen), machine)
        small = [build for build in builds if build.name.startswith("xqa")]
        assert 0 < len(small) <= most
        assert len(builds) - len(small) <= 6  # FMHA v2: two layouts, in bfloat16, in float16, and from 8 bits to 16
        assert wall_seconds(small, 16) < 160


def test_shapes_are_those_that_the_cases_ask() -> None:
    session = Session(platform=HOPPER, profile=profile_named("smoke"))
    shapes = frozenset(shapes_asked(session, [("extend", "gemma4-e2b")], (), "trtllm_mha"))
    assert shapes == frozenset(shapes_asked(session, [("extend", "gemma4-e2b")], (), "trtllm_mha"))
    assert {"extend", "decode"} == {shape.mode for shape in shapes}
    assert {"NHD", "HND"} == {shape.kv_layout for shape in shapes}


def test_wall_time_counts_the_longest_build_and_the_jobs() -> None:
    small = [Build(str(index), 10.0) for index in range(8)]
    assert wall_seconds([], 4) == 0
    assert wall_seconds(small, 4) == 20
    assert wall_seconds(small[:1], 4) == 10
    assert wall_seconds([Build("large", 400.0, sources=100)], 4) == 100


def test_what_is_built_is_found_in_either_folder(places: SimpleNamespace, put: Put) -> None:
    backend = make(HOPPER)
    assert not backend.is_built(Build(LONG, 1.0))
    put(places.FLASHINFER_JIT_DIR, LONG)
    put(places.FLASHINFER_AOT_DIR, module(DECODE).name)
    assert backend.is_built(Build(LONG, 1.0))
    assert backend.is_built(Build(module(DECODE).name, 1.0))


def test_a_long_build_that_is_missing_is_named_with_its_price(places: SimpleNamespace, put: Put) -> None:
    backend = make(HOPPER)
    reason = f"its kernel module {LONG} is not built (about 30 CPU minutes; attnconf build --module {LONG})"
    missing = missing_build(backend, EXTEND)
    assert missing is not None
    assert unbuilt_reason(missing) == reason
    assert missing_build(backend, DECODE) is None
    assert missing_build(backend, DECODE, budget=0) is not None
    assert missing_build(backend, EXTEND, budget=2000) is None
    put(places.FLASHINFER_JIT_DIR, LONG)
    assert missing_build(backend, EXTEND) is None


@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_of_modules_is_carried(
    packed: bool,  # noqa: FBT001 - a parameter of the test
    places: SimpleNamespace,
    put: Put,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder, other = tmp_path / "carried", module(DECODE).name
    put(places.FLASHINFER_JIT_DIR, LONG, b"library")
    make(HOPPER).export([Build(LONG, 1.0)], folder)
    put(places.FLASHINFER_JIT_DIR, other, b"small")
    make(HOPPER).export([Build(other, 1.0)], folder)
    assert set(Manifest.read(folder / MANIFEST).modules) == {LONG, other}
    if packed:
        (folder / f"{LONG}.so.xz").write_bytes(lzma.compress(b"library"))
        (folder / f"{LONG}.so").unlink()

    places.FLASHINFER_JIT_DIR = tmp_path / "another machine"
    prebuilt = put(places.FLASHINFER_AOT_DIR, "prebuilt")
    assert not make(HOPPER).is_built(Build(LONG, 1.0))
    monkeypatch.setenv(VARIABLE, str(folder))
    backend = make(HOPPER)
    assert backend.is_built(Build(LONG, 1.0))
    assert (places.FLASHINFER_AOT_DIR / LONG / f"{LONG}.so").read_bytes() == b"library"
    assert (places.FLASHINFER_AOT_DIR / "prebuilt" / "prebuilt.so").samefile(prebuilt)
    assert not (tmp_path / "package" / "aot" / LONG).exists()


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("flashinfer", "0.0.1", "it was made for flashinfer-python 0.0.1, and this is"),
        ("sm", "12.0", "it was made for SM 12.0, and this is SM 9.0"),
        ("cuda", "12.9", "it was made with CUDA 12.9, and this is CUDA 13.0"),
        ("modules", {"../evil": "00"}, "'../evil' is no kernel module"),
    ],
)
def test_a_folder_for_another_machine_is_refused(
    field: str, value: object, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = {"flashinfer": HOPPER.packages["flashinfer-python"], "sm": "9.0", "cuda": "13.1"}
    (tmp_path / MANIFEST).write_text(json.dumps(data | {field: value}), encoding="utf-8")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    with pytest.raises(BackendUnavailableError, match=why):
        make(HOPPER)
    make(Platform(packages=HOPPER.packages))  # without a GPU nothing is loaded from it


def test_a_folder_without_a_manifest_and_a_changed_library_are_refused(
    places: SimpleNamespace, put: Put, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(BackendUnavailableError, match="does not name a kernel cache"):
        make(HOPPER)
    monkeypatch.delenv(VARIABLE)
    put(places.FLASHINFER_JIT_DIR, LONG)
    make(HOPPER).export([Build(LONG, 1.0)], tmp_path / "carried")
    (tmp_path / "carried" / f"{LONG}.so").write_bytes(b"changed")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "carried"))
    with pytest.raises(BackendUnavailableError, match="another SHA-256"):
        make(HOPPER).is_built(Build(LONG, 1.0))


def test_an_export_mixes_no_kinds_and_lacks_nothing(places: SimpleNamespace, put: Put, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="is not built"):
        make(HOPPER).export([Build(LONG, 1.0)], tmp_path / "carried")
    put(places.FLASHINFER_JIT_DIR, LONG)
    make(HOPPER).export([Build(LONG, 1.0)], tmp_path / "carried")
    with pytest.raises(InvalidInputError, match=r"SM 9\.0, CUDA 13\.0; allowed: another folder"):
        make(simulate("12.0")).export([Build(LONG, 1.0)], tmp_path / "carried")


def test_what_fails_to_build_is_one_line_and_the_rest_is_built(
    places: SimpleNamespace, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def spec(name: str) -> SimpleNamespace:
        def compile_(*, verbose: bool, need_lock: bool) -> None:
            assert not verbose
            assert need_lock
            seen.append(os.environ["MAX_JOBS"])
            if "f16_kv" in name and "bf16_kv" not in name:
                message = "Ninja build failed.\n[1/5] nvcc\nmha.cu(7): error: no such thing\nninja: stopped"
                raise RuntimeError(message)
            put(places.FLASHINFER_JIT_DIR, name)

        return SimpleNamespace(name=name, build=compile_)

    monkeypatch.setattr("attnconf.backends.flashinfer.trtllm_mha.backend.jit_spec", spec)
    monkeypatch.setenv("MAX_JOBS", "3")
    names = {label: module(shape).name for label, shape in SHAPES.items()}
    put(places.FLASHINFER_JIT_DIR, names["decode, full"])
    wanted = [Build(names[label], 14.0, 5) for label in ("decode, windowed", "decode, full", "fp16, group 7")]
    lines: list[str] = []
    report = make(HOPPER).build([*wanted, Build(LONG, 1800.0, 134)], 8, lines.append)
    assert set(report.built) == {names["decode, windowed"], LONG}
    assert report.cached == (names["decode, full"],)
    assert report.failures == {names["fp16, group 7"]: "mha.cu(7): error: no such thing"}
    assert seen == ["4", "4", "8"]
    assert os.environ["MAX_JOBS"] == "3"
    assert lines[-1].startswith(f"{LONG} (about 30 CPU minutes): done")


@pytest.mark.parametrize(("version", "seconds"), [("0.6.13", 14.0), ("0.7.2", 30.0), ("0.7.2.post1", 30.0)])
def test_a_module_of_a_later_xqa_costs_more(version: str, seconds: float) -> None:
    platform = HOPPER.model_copy(update={"packages": {**HOPPER.packages, "flashinfer-python": version}})
    (build,) = make(platform).builds([SHAPES["decode, full"]])
    assert build.cpu_seconds == seconds
