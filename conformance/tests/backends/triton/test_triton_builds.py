"""Triton's builds: what they are named after, and that nothing else decides a compile."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import pytest

from attnconf.backends.builds import Build, Builder
from attnconf.backends.triton.backend import TritonBackend
from attnconf.backends.triton.build import marker
from attnconf.cases.case import KVLayout, Storage
from attnconf.cases.shape import KernelShape
from attnconf.errors import UnsupportedError
from attnconf.platforms import Platform, simulate
from conformance.tests.support.shapes import a_shape

if TYPE_CHECKING:
    from pathlib import Path

HOPPER = Platform(device="a GPU", sm=(9, 0), packages={"triton": "3.6.0"})
SHAPE = a_shape(head_dim=64, num_qo_heads=4, num_kv_heads=2, kv_layout="NHD", windowed=True)


def names(*shapes: KernelShape, platform: Platform = HOPPER) -> list[str]:
    return [build.name for build in TritonBackend(platform).builds(shapes)]


def test_a_decode_is_one_launch_and_an_extend_any_stage() -> None:
    wide = replace(SHAPE, num_qo_heads=16)
    assert names(wide) == ["triton-decode-splitkv_bf16_bf16_hd64_16x2_ps16_window"]
    verify = replace(wide, mode="verify", max_q_len=5)
    assert names(verify) == ["triton-verify-splitkv_bf16_bf16_hd64_16x2_ps16_window"]
    stages = {name.partition("_")[0] for name in names(replace(wide, mode="extend", max_q_len=30))}
    assert stages == {"triton-decode-splitkv", "triton-verify-splitkv", "triton-extend"}
    assert len(names(replace(wide, mode="mixed", max_q_len=8))) == 2


def test_decode_and_verify_are_one_kernel_where_they_are_cut_alike() -> None:
    decode, verify = names(SHAPE), names(replace(SHAPE, mode="verify", max_q_len=5))
    assert decode == verify == ["triton-splitkv_bf16_bf16_hd64_4x2_ps16_window"]
    assert len(names(replace(SHAPE, mode="extend", max_q_len=30))) == 2


@pytest.mark.parametrize(("head_dim", "count"), [(80, 2), (72, 10)])
def test_layout_and_storage_count_where_strides_are_not_multiples_of_16(head_dim: int, count: int) -> None:
    shapes = [
        replace(SHAPE, head_dim=head_dim, kv_layout=layout, storage=storage)
        for layout in get_args(KVLayout)
        for storage in get_args(Storage)
    ]
    assert len(names(*shapes)) == count  # storage unlike counts everywhere: K and V have strides of their own


def test_nothing_is_built_where_kernels_are_interpreted_or_unsupported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(TritonBackend(HOPPER), Builder)
    assert names(SHAPE, platform=Platform(packages={"triton": "3.6.0"})) == []
    assert names(SHAPE, platform=simulate("9.0")) == []
    assert names(replace(SHAPE, head_dim=1024)) == []
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert names(SHAPE) == []


def test_a_marker_is_for_one_triton_and_one_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    backend = TritonBackend(HOPPER)
    (build,) = backend.builds([SHAPE])
    assert not backend.is_built(build)
    path = marker(build, HOPPER)
    path.parent.mkdir(parents=True)
    path.touch()
    assert backend.is_built(build)
    assert tmp_path in path.parents
    assert not TritonBackend(HOPPER.model_copy(update={"sm": (10, 0)})).is_built(build)
    assert not TritonBackend(HOPPER.model_copy(update={"packages": {"triton": "3.7.0"}})).is_built(build)


def test_what_fails_to_compile_is_one_line_and_leaves_no_marker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a GPU every compile fails: in its worker, in one line."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    backend = TritonBackend(HOPPER)
    builds = backend.builds([SHAPE])
    said: list[str] = []
    report = backend.build(builds, 2, said.append)
    assert list(report.failures) == [builds[0].name]
    assert "\n" not in report.failures[builds[0].name]
    assert not report.built
    assert not backend.is_built(builds[0])
    assert said
    assert "1 of 1 Triton launches: done" in said[-1]


def test_compiled_launches_do_not_travel(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="TRITON_CACHE_DIR"):
        TritonBackend(HOPPER).export([Build("x", 1.0)], tmp_path)


COUNTS = '''
import itertools, sys
from types import SimpleNamespace
import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver


class Hopper:
    """A driver that names a GPU and has none: enough to compile."""

    get_current_device = staticmethod(lambda: 0)
    get_current_stream = staticmethod(lambda device: 0)
    get_current_target = staticmethod(lambda: GPUTarget("cuda", 90, 32))
    utils = SimpleNamespace(get_device_properties=lambda device: {"max_shared_mem": 227 * 1024})


driver.set_active(Hopper())

from attnconf.backends.triton import build, launch
from attnconf.backends.triton.variants import launch_builds
from attnconf import Case, Layer, Paging, Request
from attnconf.cases.inputs.target import make_target
from attnconf.cases.inputs.assemble import assemble
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.inputs.layout import place
from attnconf.cases.shape import kernel_shape

launch._require_cuda = lambda batch: None
assert not launch.interpreted()


def compiled():
    kernels = launch.kernels()
    return tuple(len(kernel.device_caches[0][0]) for kernel in (kernels.attend, kernels.merge))


def case(lens, window, layout, storage, mode):
    layer = Layer(
        kind="sliding", window_left=window, num_qo_heads=4, num_kv_heads=2, head_dim=HEAD_DIM, sm_scale=1.0
    )
    return Case(
        mode=mode,
        layers=(layer,),
        requests=tuple(Request(prefix_len=prefix, new_tokens=new) for prefix, new in lens),
        paging=Paging(page_size=16, layout=layout, storage=storage, extra_columns=2 if window == 17 else 0),
    )


HEAD_DIM = 16
cases = [
    case(lens, window, layout, storage, mode)
    for lens, mode in (
        (((600, 1), (0, 1)), "decode"), (((3, 1),), "decode"), (((255, 1),), "decode"), (((5000, 1),), "decode"),
        (((700, 3), (2, 3)), "verify"), (((900, 8),), "verify"), (((30, 6), (40, 1), (0, 20), (17, 0)), "extend"),
    )
    for window, layout, storage in zip(
        (0, 1, 16, 17, 1000),
        itertools.cycle(("NHD", "HND")),
        itertools.cycle(("apart", "interleaved", "padded", "sliced")),
    )
]
for variant in {b.variant for c in cases for b in launch_builds(kernel_shape(c, 0))}:
    build.compile_variant(variant, "cpu")
before = compiled()
for c in cases:
    batch = assemble(c, place(c), make_logical(c), torch.device("cpu"))
    target = make_target(batch, 0, lse=True)
    launch.Launches(batch).compile(0, target.out, target.lse)
print(before, compiled())
'''


def test_every_batch_of_a_built_shape_finds_its_launches_compiled(tmp_path: Path) -> None:
    """Lengths, columns, windows, layouts and storages differ, and no launch is compiled that was not built."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(  # noqa: S603 - this very Python, and the text above
        [sys.executable, "-W", "ignore", "-c", COUNTS], capture_output=True, text=True, env=environment, check=False
    )
    # The attention kernels of splits and extends; merges of 1, 2, 3 or 4, and 5 to 8 query tokens.
    assert done.stdout == "(2, 4) (2, 4)\n", done.stderr[-2000:]
