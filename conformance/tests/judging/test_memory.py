"""Memory limits: a case beyond them is not run, and the run says so before it starts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import torch

from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case, Layer
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.request import Request
from attnconf.judging.device_memory import memory_held_by_others, release_cached_memory
from attnconf.judging.footprint import footprint
from attnconf.judging.memory import Memory, gigabytes, host_memory, machine_memory
from attnconf.judging.result import Outcome
from attnconf.judging.run import run_case
from attnconf.platforms import Platform, simulate
from attnconf.running.length_plan import plan_lengths
from attnconf.running.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from attnconf.backends.protocol import Prepared
    from attnconf.cases.inputs.batch import Batch

LAYER = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25)
MODES = (("decode", "gemma4-31b"), ("decode", "gemma4-e2b"), ("windows", "gemma4-31b"))


def a_case(length: int) -> Case:
    return Case(mode="decode", layers=(LAYER, LAYER), requests=(Request(prefix_len=length),))


def on_hopper(memory: Memory) -> Session:
    return Session(platform=simulate("9.0"), profile=profile_named("gate"), memory=memory)


def test_a_case_that_does_not_fit_is_not_run_and_says_why() -> None:
    limit = footprint(a_case(100), accelerated=False).host
    session = Session(platform=Platform(), profile=profile_named("smoke"), memory=Memory(host=limit))
    assert {layer.outcome for layer in session.run(a_case(100), "reference").layers} == {Outcome.PASSED}
    result = session.run(a_case(2000), "reference")
    assert [layer.outcome for layer in result.layers] == [Outcome.NOT_RUN] * 2
    assert result.layers[0].reason.startswith("the case needs more than the 0.0 GB of host memory that a process")
    assert not result.is_failure


def test_the_plan_says_what_is_asked_and_what_will_not_run() -> None:
    drawn = on_hopper(Memory()).drawn
    cases = [case for family, model in MODES for case in drawn.large_cases(family, model)]
    needs = sorted(footprint(case, accelerated=True).device for case in cases)
    plan = plan_lengths(on_hopper(Memory(host=10**12, device=needs[-3])), MODES)
    assert plan.cases == len(cases) == 4 + 2 * 4  # of decode: three batches and a context
    assert (plan.longest >= 131_072, plan.rows, plan.requests) == (True, 1, 512)
    room = gigabytes(needs[-3])
    assert plan.lines[0].startswith(f"12 large cases for each backend, of up to {plan.longest} keys, 1 new tokens")
    assert plan.lines[0].endswith(f"and a process has {room} of GPU and 1000.0 GB of host memory")
    (refused,) = plan.lines[1:]
    assert refused.startswith("not run: 2 large cases of gemma4-")
    assert refused.endswith(f": each needs more than the {room} of GPU memory that a process has")
    assert plan.device == needs[-3]


def test_host_memory_is_a_limit_of_its_own() -> None:
    plan = plan_lengths(on_hopper(Memory(host=10**6)), MODES)
    (refused,) = plan.lines[1:]
    assert refused.startswith(
        "not run: 12 large cases of gemma4-31b, gemma4-e2b: each needs more than the 0.0 GB of host "
    )


def test_without_limits_or_large_cases_there_is_nothing_to_refuse() -> None:
    assert len(plan_lengths(on_hopper(Memory()), MODES).lines) == 1
    on_cpu = Session(platform=Platform(), profile=profile_named("gate"))
    assert plan_lengths(on_cpu, MODES).lines == []


def machine(folder: Path, **files: str) -> tuple[Path, Path]:
    """Return a folder of control groups and a procfs with 8 GB available; ``files`` by path, with __ for a slash."""
    groups, proc = folder / "groups", folder / "proc"
    for name, text in {"proc/meminfo": "MemFree: 3 kB\nMemAvailable:    8000000 kB\n", **files}.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return groups, proc


def test_the_host_has_what_is_free_and_not_what_is_built_in(tmp_path: Path) -> None:
    assert host_memory(*machine(tmp_path)) == 8_192_000_000
    assert host_memory(tmp_path / "no", tmp_path / "such") > 2**26


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"groups__memory.max": "max\n"}, 8_192_000_000),
        ({"groups__memory.max": "1048576\n"}, 1048576),
        ({"groups__memory.max": "1048576\n", "groups__memory.current": "48576\n"}, 1_000_000),
        ({"groups__memory.max": "100", "groups__memory.current": "90", "groups__memory.stat": "inactive_file 40"}, 50),
        ({"groups__memory.max": "100", "groups__memory.current": "120"}, 0),
        ({"proc__self__cgroup": "0::/a/b\n", "groups__a__memory.max": "70", "groups__a__b__memory.max": "90"}, 70),
        ({"groups__memory__memory.limit_in_bytes": "80", "groups__memory__memory.usage_in_bytes": "30"}, 50),
        ({"proc__self__cgroup": "4:cpu:/x\n3:memory:/x\n", "groups__memory__x__memory.limit_in_bytes": "7"}, 7),
        ({"proc__self__cgroup": "nonsense\n\n::\n"}, 8_192_000_000),
    ],
)  # fmt: skip
def test_a_control_group_and_those_around_it_leave_what_they_do_not_use(
    tmp_path: Path, files: dict[str, str], left: int
) -> None:
    assert host_memory(*machine(tmp_path, **files)) == left


def test_processes_share_the_host_and_those_of_one_gpu_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnconf.judging.memory.host_memory", lambda: 100)
    assert machine_memory(Platform(), processes=4, per_gpu=2) == Memory(host=20, device=None)
    properties = type("Properties", (), {"total_memory": 1000})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    assert machine_memory(Platform(sm=(9, 0)), processes=4, per_gpu=2) == Memory(host=20, device=400)


GPU = torch.device("cuda")


def hold(monkeypatch: pytest.MonkeyPatch, *, free: int, own: int) -> None:
    """Pretend a GPU of 80 GB with so much of it free, and so much in this process's hands."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 80_000_000_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: own)


def test_a_gpu_whose_memory_others_hold_is_no_fault_of_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = footprint(a_case(30_000), accelerated=True).device
    hold(monkeypatch, free=needed // 2, own=needed // 4)
    why = memory_held_by_others(a_case(30_000), GPU)
    assert why is not None
    assert re.fullmatch(r"other processes hold 79\.\d GB of the GPU's 80\.0 GB, and the case takes up to 0\.\d GB", why)
    hold(monkeypatch, free=needed // 2, own=needed)
    assert memory_held_by_others(a_case(30_000), GPU) is None
    assert memory_held_by_others(a_case(30_000), torch.device("cpu")) is None
    monkeypatch.setattr("attnconf.judging.device_memory.host_memory", lambda: 10**6)
    said = memory_held_by_others(a_case(30_000), torch.device("cpu"))
    assert said is not None
    assert re.fullmatch(r"0.0 GB of host memory are free, and the case takes up to 0\.\d GB", said)


class _Full(ReferenceBackend):
    """A backend for which there is no memory."""

    def prepare(self, _batch: Batch) -> Prepared:
        message = "CUDA out of memory"
        raise torch.OutOfMemoryError(message)


@pytest.mark.parametrize(("why", "outcome"), [("others hold it", Outcome.NOT_RUN), (None, Outcome.OOM)])
def test_out_of_memory_is_the_backends_unless_others_hold_it(
    why: str | None, outcome: Outcome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnconf.judging.run.memory_held_by_others", lambda *_: why)
    result = run_case(a_case(20), _Full(), Platform(), torch.device("cpu"))
    assert [layer.outcome for layer in result.layers] == [outcome] * 2
    assert {layer.reason for layer in result.layers} == {why or "OutOfMemoryError: CUDA out of memory"}


def test_an_oracle_without_memory_for_its_effects_is_typed_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        message = "CUDA out of memory"
        raise torch.OutOfMemoryError(message)

    monkeypatch.setattr("attnconf.judging.run.units_by_layer", full)
    result = run_case(a_case(20), ReferenceBackend(), Platform(), torch.device("cpu"))
    assert {(layer.outcome, layer.reason) for layer in result.layers} == {
        (Outcome.OOM, "in effects: OutOfMemoryError: CUDA out of memory")
    }


def test_what_torch_keeps_is_given_back_above_a_gigabyte(monkeypatch: pytest.MonkeyPatch) -> None:
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    for own in (2**30, 2**30 + 1):
        hold(monkeypatch, free=0, own=own)
        release_cached_memory(GPU)
    release_cached_memory(torch.device("cpu"))
    assert emptied == [True]
