"""Builds on a toy backend: planned, built, and what lacks a long one is not run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from attnconf.backends.builds import Build, BuildReport
from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.request import Request
from attnconf.cases.shape import kernel_shape
from attnconf.cli.main import main
from attnconf.judging.checks.catalogue import all_checks
from attnconf.judging.checks.labels import other_paging
from attnconf.judging.checks.siblings import SIBLINGS, siblings
from attnconf.judging.posed import PosedCase
from attnconf.judging.result import Outcome
from attnconf.judging.run import run_case
from attnconf.judging.trial import Trial
from attnconf.platforms import Platform, simulate
from attnconf.running import doctor
from attnconf.running.build_plan import default_jobs, plan_builds
from attnconf.running.planned_shapes import asked_shapes, shapes_asked
from attnconf.running.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from attnconf.backends.protocol import Prepared
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape

CPU = torch.device("cpu")
CASE = Case(
    model="toy",
    mode="verify",
    layers=(Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25),),
    requests=(Request(prefix_len=20, new_tokens=3), Request(prefix_len=5, new_tokens=3)),
    paging=Paging(page_size=8),
)


@dataclass
class Compiler(ReferenceBackend):
    """The reference, compiled: one module a mode and layout; ``long`` are the names of those that take an hour."""

    name = "toy"
    long: frozenset[str] = frozenset()
    ready: set[str] = field(default_factory=set)
    fails: frozenset[str] = frozenset()

    def builds(self, shapes: Iterable[KernelShape]) -> tuple[Build, ...]:
        names = sorted({f"{shape.mode}-{shape.kv_layout}" for shape in shapes})
        return tuple(Build(name, 3600.0 if name in self.long else 10.0) for name in names)

    def is_built(self, build: Build) -> bool:
        return build.name in self.ready

    def build(self, builds: Sequence[Build], jobs: int, progress: Callable[[str], None]) -> BuildReport:
        progress(f"{len(builds)} with {jobs} jobs")
        good = tuple(build.name for build in builds if build.name not in self.fails)
        self.ready.update(good)
        return BuildReport(built=good, failures=dict.fromkeys(self.fails, "error: no"), seconds=1.5)

    def export(self, builds: Sequence[Build], folder: Path) -> tuple[Path, ...]:
        folder.mkdir()
        for build in builds:
            (folder / build.name).touch()
        return tuple(folder / build.name for build in builds)


def session_of(backend: Compiler, profile: str = "smoke", budget: float = 120.0) -> Session:
    session = Session(platform=simulate("9.0"), profile=profile_named(profile), build_budget=budget)
    session.registry.register("toy", lambda _: backend)
    return session


def test_what_lacks_a_long_build_is_not_run_and_says_how_to_build_it() -> None:
    backend = Compiler(long=frozenset({"verify-NHD"}))
    layer = run_case(CASE, backend, Platform(), CPU).layers[0]
    assert layer.outcome is Outcome.NOT_RUN
    assert layer.reason == (
        "its kernel module verify-NHD is not built (about 60 CPU minutes; attnconf build --module verify-NHD)"
    )
    assert run_case(CASE, backend, Platform(), CPU, build_budget=3600.0).layers[0].outcome is Outcome.PASSED
    backend.ready.add("verify-NHD")
    assert run_case(CASE, backend, Platform(), CPU).layers[0].outcome is Outcome.PASSED


def test_the_doctor_does_not_blame_a_backend_whose_module_is_not_built() -> None:
    session = Session(platform=Platform(), profile=profile_named("smoke"))
    session.registry.register("toy", lambda _: Compiler(long=frozenset({"decode-HND"})))
    finding = doctor._ask(session, "toy")
    assert finding.status == "not built"
    assert "attnconf build --module decode-HND" in finding.detail


@pytest.mark.parametrize("others", [{"extend-NHD", "decode-NHD"}, {"verify-HND"}])
def test_checks_choose_variants_that_are_built(others: set[str]) -> None:
    backend = Compiler(long=frozenset(others))
    seen: set[str] = set()
    prepare = backend.prepare

    def note(batch: object) -> object:
        seen.add(f"{batch.mode}-{batch.kv_layout}")  # type: ignore[attr-defined]
        return prepare(batch)  # type: ignore[arg-type]

    backend.prepare = note  # type: ignore[assignment, method-assign]
    result = run_case(CASE, backend, Platform(), CPU, choose=all_checks)
    assert {layer.outcome for layer in result.layers} == {Outcome.PASSED}
    assert "verify-NHD" in seen
    assert not seen & others


@pytest.mark.parametrize("explain", [False, True])
def test_one_case_of_very_many_builds_nothing_for_a_sibling(*, explain: bool) -> None:
    """Seen with XQA: a search over bfloat16 keys compiled 23 modules for 8-bit ones, one by one, inside its cases."""
    backend, seen = Compiler(), set[str]()
    prepare, builds = backend.prepare, backend.builds

    def note(batch: Batch) -> Prepared:
        seen.update(str(cache.k.dtype) for cache in batch.caches)
        return prepare(batch)

    def by_dtype(shapes: Iterable[KernelShape]) -> tuple[Build, ...]:
        return tuple(replace(build, name=shape.kv_dtype) for shape in shapes for build in builds([shape]))

    backend.prepare = note  # type: ignore[method-assign]
    backend.builds = by_dtype  # type: ignore[method-assign]
    backend.ready = {"bfloat16"}
    sixteen = CASE.model_copy(update={"q_dtype": "bfloat16", "kv_dtype": "bfloat16"})
    traits = [trait for trait, _ in siblings(sixteen, 0)]
    case = sixteen.model_copy(update={"seed": traits.index("the dtype of keys and values")})
    result = run_case(case, backend, Platform(), CPU, choose=lambda _: (SIBLINGS,), explain=explain)
    assert {layer.outcome for layer in result.layers} == {Outcome.PASSED}
    assert seen == {"torch.bfloat16", *(["torch.float8_e4m3fn"] if explain else [])}


def test_a_trial_that_is_told_of_no_build_lacks_none() -> None:
    trial = Trial(PosedCase(CASE, CPU), ReferenceBackend(), Platform())
    assert other_paging(trial, 0) is not None
    assert trial.missing(kernel_shape(CASE, 0)) is None


def test_the_shapes_of_a_case_include_those_of_its_checks() -> None:
    every = set(asked_shapes(CASE, all_checks))
    assert {(shape.mode, shape.kv_layout) for shape in every} == {
        ("verify", "NHD"), ("verify", "HND"), ("decode", "NHD"), ("extend", "NHD")
    }  # fmt: skip
    assert {shape.max_q_len for shape in every if shape.mode == "decode"} == {1}
    assert set(asked_shapes(CASE, lambda _: ())) == {kernel_shape(CASE, 0)}


def test_a_plan_counts_what_is_missing_cached_and_beyond_the_budget() -> None:
    backend = Compiler(long=frozenset({"extend-NHD"}), ready={"decode-NHD"})
    shapes = set(asked_shapes(CASE, all_checks))
    plan = plan_builds(session_of(backend), ["toy", "reference"], lambda _: shapes, jobs=4)
    assert [build.name for build in plan.missing] == ["verify-HND", "verify-NHD"]
    assert plan.lines == [
        "4 kernel modules for these tests, 1 cached, about 10 s with 4 jobs",
        "not run without extend-NHD, which is not built (about 60 CPU minutes)",
    ]
    assert plan.brief == plan.lines
    said: list[str] = []
    report = plan.build(said.append)
    assert (report.built, report.cached, report.seconds) == (("verify-HND", "verify-NHD"), ("decode-NHD",), 1.5)
    assert said == ["2 with 4 jobs"]
    again = plan_builds(session_of(backend), ["toy"], lambda _: shapes, jobs=4)
    assert again.lines[0] == "4 kernel modules for these tests, 3 cached, nothing to build"


def test_a_brief_plan_counts_the_many_modules_of_a_backend_that_are_not_built() -> None:
    backend = Compiler(long=frozenset({"decode-NHD", "extend-NHD", "verify-HND", "verify-NHD"}))
    plan = plan_builds(session_of(backend), ["toy"], lambda _: asked_shapes(CASE, all_checks), jobs=4)
    first, beyond = plan.brief
    assert first == "4 kernel modules for these tests, 0 cached, nothing to build"
    assert beyond.startswith("not run without 4 modules of toy, which are not built (about 240 CPU minutes; ")
    assert len(plan.lines) == 5


def test_a_plan_for_one_module_knows_no_budget_and_one_without_builders_is_silent() -> None:
    backend = Compiler(long=frozenset({"extend-NHD"}))
    shapes = set(asked_shapes(CASE, all_checks))
    plan = plan_builds(session_of(backend), ["toy"], lambda _: shapes, jobs=1, modules=["extend-NHD"])
    assert [build.name for build in plan.missing] == ["extend-NHD"]
    assert plan_builds(session_of(backend), ["reference"], lambda _: shapes, jobs=1).lines == []
    assert plan_builds(session_of(backend, budget=0), ["toy"], lambda _: shapes, jobs=1).missing == ()


def test_a_long_profile_is_planned_from_its_first_cases() -> None:
    session = session_of(Compiler())
    long = replace(session.profile, examples={**session.profile.examples, "decode": 10**9})
    short = replace(session, profile=replace(long, max_kv_len=20))
    assert set(shapes_asked(short, [("decode", "gemma4-e2b")], (), "toy"))


@pytest.mark.parametrize(("told", "jobs"), [("3", 3), ("0", None), ("many", None), ("", None)])
def test_jobs_are_those_of_max_jobs_or_the_cores(told: str, jobs: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_JOBS", told)
    assert default_jobs() == jobs or (jobs is None and default_jobs() >= 1)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    """The toy backend, which every session has in this process."""
    backend = Compiler(long=frozenset({"extend-NHD", "extend-HND"}), fails=frozenset({"decode-HND"}))
    monkeypatch.setattr("attnconf.running.session.Session.isolates", lambda *_: False)
    monkeypatch.setattr("attnconf.running.session.Registry.make", lambda *_: backend)
    return backend


SMALL = ("build", "--sm", "9.0", "--profile", "gate", "--backend", "trtllm_mha", "--model", "gemma4-e2b")


def test_the_command_plans_without_building(toy: Compiler, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMALL, "--family", "decode", "--dry-run", "--jobs", "2"]) == 0
    out = capsys.readouterr().out
    assert "kernel modules for these tests, 0 cached, about 10 s with 2 jobs" in out
    assert "not run without extend-NHD, which is not built (about 60 CPU minutes)" in out
    assert "\ndecode-NHD\n" in out
    assert not toy.ready


def test_the_command_builds_exports_and_fails_for_what_fails(
    toy: Compiler, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "out"
    assert main([*SMALL, "--family", "decode", "--budget", "inf", "--export", str(folder)]) == 1
    assert "decode-HND does not build: error: no" in capsys.readouterr().out
    assert {path.name for path in folder.iterdir()} == toy.ready >= {"decode-NHD", "extend-NHD"}


def test_the_command_builds_one_module_whatever_it_costs(toy: Compiler) -> None:
    toy.fails = frozenset()
    assert main([*SMALL, "--module", "extend-HND"]) == 0
    assert toy.ready == {"extend-HND"}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (("--module", "nonsense"), "--module: 'nonsense'; allowed: a module that the profile needs"),
        (("--family", "nonsense"), "--family: 'nonsense'; allowed: decode, extend"),
        (("--backend", "nonsense"), "nonsense"),
        (("--profile", "nonsense"), "nonsense"),
        (("--sm", "nonsense"), "nonsense"),
        (("--jobs", "0"), "'0' is not a number of jobs, 1 or more"),
        (("--budget", "nan"), "'nan' is not a number of seconds, 0 or more"),
    ],
)
def test_what_cannot_be_meant_is_one_sentence(
    given: tuple[str, str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main([*SMALL, *given])
    except SystemExit as error:
        status = int(str(error.code))
    assert status == 2
    assert sentence in capsys.readouterr().err


def test_without_a_gpu_the_command_wants_to_know_for_which(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnconf.platforms.detect", Platform)
    assert main(["build"]) == 2
    assert "it has no GPU to build for; allowed: --sm M.N" in capsys.readouterr().err
