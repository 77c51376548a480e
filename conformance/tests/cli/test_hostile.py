"""Hostile text in every field of every file, and in their names, breaches no output of any command.

The fields come from the models' schemas, and what counts as a breach from ``sinks.py``, which knows no escape of ours.
"""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import tomllib
from argparse import Namespace
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from attnconf.backends.protocol import Unsupported
from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.vectors import VectorFile
from attnconf.cli.console import Console
from attnconf.cli.doctor import run as doctor
from attnconf.cli.main import main
from attnconf.cli.replayed import Replay
from attnconf.errors import BackendUnavailableError
from attnconf.escape import foreign_command, shell
from attnconf.gate.plans.fleet import Fleet
from attnconf.gate.plans.fleet_plan import FleetPlan
from attnconf.gate.provider import Provider, Source
from attnconf.gate.receipt import Receipt
from attnconf.gate.sealed import Sealed, seal
from attnconf.gate.speeds.paired import Paired
from attnconf.gate.speeds.speed_receipt import SpeedReceipt
from attnconf.platforms import Platform
from attnconf.policy.policy import Policy
from attnconf.running.session import Session
from conformance.tests.support.fuzz.targets import PLAN, SHA, SMALL
from conformance.tests.support.gate_receipts import receipt_of
from conformance.tests.support.gate_repository import FLEET, git, start
from conformance.tests.support.hostile import EVIL, FILE, Poisoned, toml
from conformance.tests.support.receipts import LENIENT, everything
from conformance.tests.support.sinks import (
    command_faults,
    markdown_faults,
    page_faults,
    shell_faults,
    terminal_faults,
)
from conformance.tests.support.speed_receipts import speed_cell, speed_receipt

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.values import Value

_FROM_A_FILE = Provider(sources=(Source(path="conftest.py", sha256=None, committed=False),))
_ONE = [[{"order": "ABBA", "micros": [1.0, 1.0, 1.0, 1.0]}]]
SPEED = speed_receipt(speed_cell(cold=_ONE, warm=_ONE, control=_ONE), left_out=("x",))
_RUN = {"source": "s", "sha256": "0" * 64, "requests": 2, "speeds": {"output_throughput": 2.5}, "faults": ["f"]}
PAIRED = Paired.model_validate(
    {"git_sha": "s", "candidate": "a", "over": "b", "runs": [{**_RUN, "side": "A"}, {**_RUN, "side": "B"}]}
)
_MODELS: dict[str, tuple[type[Value], dict[str, Any]]] = {
    "receipt": (Receipt, everything(providers={"wrong": _FROM_A_FILE}).model_dump(mode="json", by_alias=True)),
    "planned": (Receipt, receipt_of(PLAN, "cpu").model_dump(mode="json", by_alias=True)),
    "plan": (FleetPlan, PLAN.to_data()),
    "policy": (Policy, LENIENT.model_dump(mode="json", by_alias=True)),
    "fleet": (Fleet, tomllib.loads(FLEET)),
    "speed": (SpeedReceipt, {**SPEED.to_data(), "correctness": {**SPEED.correctness.to_data(), "digest": None}}),
    "paired": (Paired, PAIRED.to_data()),
    "case": (Case, SMALL.to_data()),
    "vectors": (
        VectorFile,
        {
            "schema": "attnconf.vectors/1",
            "provenance": "p",
            "vectors": [{"name": "x", "note": "n", "bug": "b", "case": SMALL.to_data()}],
        },
    ),
}
_KEY = ("backend", "evidence", "model", "layer_kind", "mode", "q_dtype", "kv_dtype")
_REPLAY = re.compile(r"^replay: (.*)$", re.MULTILINE)


@dataclass
class Place:
    """A folder of a hostile name with one poisoned file of each kind, and the commands run on them."""

    folder: Path
    capsys: pytest.CaptureFixture[str]
    poisoned: dict[str, Poisoned]

    def file(self, kind: str) -> str:
        return str(self.folder / f"{kind}{FILE}{'.toml' if kind in {'policy', 'fleet'} else '.json'}")

    def write(self, kind: str, data: dict[str, Any]) -> None:
        model, _ = _MODELS[kind]
        if issubclass(model, Sealed):
            data = {**data, "digest": seal(data)}
        Path(self.file(kind)).write_text(toml(data) if kind in {"policy", "fleet"} else json.dumps(data))

    def run(self, *words: str) -> str:
        """Run a command, whatever its status, and return what it printed; none may be breached."""
        with contextlib.suppress(SystemExit):  # argparse ends itself
            main(words)
        captured = self.capsys.readouterr()
        assert list(terminal_faults(captured.err)) == [], words
        return captured.out

    def check(self, *words: str) -> str:
        out = self.run(*words)
        assert list(terminal_faults(out)) == [], words
        return out


@pytest.fixture(scope="module")
def poisoned() -> dict[str, Poisoned]:
    files = {kind: (model, {**data, "digest": None}) for kind, (model, data) in _MODELS.items()}
    found = {kind: Poisoned(model, _without_digest(data)) for kind, (model, data) in files.items()}
    for kind in ("receipt", "planned"):
        found[kind].data = _consistent(found[kind].data)
    return found


def _consistent(data: dict[str, Any]) -> dict[str, Any]:
    """Return a receipt of which only the text is wrong: one that contradicts itself is refused, and shows little.

    Hostile text in every name makes one cell of several.
    """
    cells = {tuple(cell[name] for name in _KEY): cell for cell in data["cells"]}
    return {**data, "cells": list(cells.values()), "exit_status": 10, "cases": None}


def _without_digest(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != "digest"}


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str], poisoned: dict[str, Poisoned]) -> Place:
    folder = tmp_path / FILE
    folder.mkdir()
    made = Place(folder, capsys, poisoned)
    for kind, one in poisoned.items():
        made.write(kind, one.data)
    return made


def test_the_text_reaches_what_a_stranger_can_write(poisoned: dict[str, Poisoned]) -> None:
    assert {"git_sha", "complaints", "spared.x", "failures.replay", "failures.text", "failures.kernel"} <= poisoned[
        "receipt"
    ].taken
    assert {"providers.wrong.sources.path", "cells.backend", "platform.device"} <= poisoned["receipt"].taken
    assert {"waivers.owner", "refusals.reason", "claims.source"} <= poisoned["policy"].taken
    assert {"nowhere", "reasons", "jobs.name"} <= poisoned["plan"].taken
    assert {"vectors.note", "vectors.case.model"} <= poisoned["vectors"].taken


def test_reports_of_poisoned_receipts(place: Place, tmp_path: Path) -> None:
    page, summary = tmp_path / "o.html", tmp_path / "o.md"
    for policy in ((), ("--policy", place.file("policy"))):
        for kind in ("receipt", "planned"):
            report = ("report", place.file(kind), *policy, "--html", str(page), "--md", str(summary))
            place.check(*report, "--against", place.file("planned"))
            assert list(command_faults(place.run(*report, "--format", "github"))) == []
            assert list(markdown_faults(summary.read_text())) == []
            text = page.read_text()
            assert list(page_faults(text)) == []
            commands = [unescape(one) for one in re.findall(r'<pre class="command">(.*?)</pre>', text, flags=re.DOTALL)]
            commands += _REPLAY.findall(summary.read_text())
            assert all(list(shell_faults(one, tmp_path)) == [] for one in commands)
    assert list(markdown_faults(place.check("matrix", place.file("receipt"), place.file("planned")))) == []
    matrix = tmp_path / "matrix.md"
    place.check("matrix", place.file("receipt"), "-o", str(matrix))
    assert list(markdown_faults(matrix.read_text())) == []
    place.check("picture", place.file("receipt"), "-o", str(tmp_path / "o.png"))


def test_reports_of_a_poisoned_speed_receipt(place: Place, tmp_path: Path) -> None:
    page, summary = tmp_path / "o.html", tmp_path / "o.md"
    file, paired = place.file("speed"), str(tmp_path / "paired.json")
    assert json.loads(Path(file).read_text())["left_out"] == [EVIL]
    report = ("report", "--speed", file, "--html", str(page), "--md", str(summary), "--json", str(tmp_path / "o.json"))
    assert "VOID: " in place.check(*report, "--against", file, "--picture", str(tmp_path / "o.png"))
    assert list(markdown_faults(summary.read_text())) == []
    assert list(page_faults(page.read_text())) == []
    for kind in ("speed", "paired"):
        place.check("sign", place.file(kind), "--key", EVIL)
    result = {
        "date": EVIL,
        "num_prompts": 2,
        "completed": 1,
        "errors": ["", EVIL],
        "output_throughput": 3.5,
        EVIL: EVIL,
    }
    served = place.folder / f"served{FILE}.json"
    served.write_text(json.dumps(result))
    place.check("paired", str(served), str(served), "--candidate", "a", "--over", "b", "-o", paired)
    place.check("paired", str(served), "--candidate", EVIL, "--over", EVIL, "--order", EVIL, "-o", paired)


@pytest.mark.parametrize("command", ["attnconf replay x; touch pwned", "pytest $(touch pwned)", "touch pwned", "it's"])
def test_a_command_of_a_receipt_runs_nothing_but_ours(command: str, tmp_path: Path) -> None:
    assert list(shell_faults(foreign_command(command), tmp_path)) == []


@pytest.mark.parametrize("words", [["attnconf", "replay", "a b/c.json"], ["pytest", "it's", "$(touch pwned)", ""]])
def test_a_command_of_ours_keeps_its_words(words: list[str], tmp_path: Path) -> None:
    assert shlex.split(shell(words)) == words
    assert list(shell_faults(shell(words), tmp_path)) == []


def test_the_gate_on_poisoned_files(place: Place) -> None:
    policy, plan, fleet = (place.file(kind) for kind in ("policy", "plan", "fleet"))
    receipts = (place.file("receipt"), place.file("planned"))
    place.check("verify", *receipts, "--policy", policy, "--plan", plan, "--sha", SHA)
    place.check("verify", *receipts, "--policy", "sglang-gemma4", "--plan", plan, "--sha", SHA, "--fleet", fleet)
    place.check("verify", EVIL, "--policy", policy, "--plan", plan, "--sha", SHA)
    speeds = ("--speed", place.file("speed"), "--speed", place.file("paired"), "--speed", EVIL)
    place.check("verify", *receipts, "--policy", policy, "--plan", plan, "--sha", SHA, *speeds)
    place.check("merge", *receipts, "-o", str(place.folder / "merged.json"))
    place.check("sign", receipts[0], "--key", EVIL)
    for form in ("text", "json", "github"):
        place.check("plan", "--policy", policy, "--fleet", fleet, "--format", form)
    for sm in ((), ("--sm", "9.0"), ("--sm", "9.0", "--json")):
        place.check("plan", "--policy", policy, *sm)
    place.check("plan", "--policy", policy, "--attention-backend", EVIL)
    place.check("policy", "check", policy)


@pytest.mark.parametrize("form", ["text", "json", "github"])
def test_a_changed_file_of_a_hostile_name(place: Place, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    start(place.folder)
    monkeypatch.chdir(place.folder)
    (place.folder / FILE).write_text("x")
    git(place.folder, "add", "--all")
    out = place.check("plan", "--policy", "policy.toml", "--fleet", "fleet.toml", "--diff", "HEAD", "--format", form)
    assert form == "github" or "is neither among the fleet's kernels nor harmless" in out


def test_cases_and_serving_results(place: Place) -> None:
    result = {"date": EVIL, "backend": EVIL, "num_prompts": 2, "completed": 1, "errors": ["", EVIL], EVIL: EVIL}
    file = place.folder / f"serving{FILE}.jsonl"
    file.write_text(json.dumps(result))
    place.check("verify-requests", str(file))
    for kind in ("case", "vectors"):
        place.check("power", place.file(kind))
        place.check("replay", place.file(kind), "--backend", "reference")


@pytest.mark.parametrize("kind", list(_MODELS))
def test_what_is_refused_is_refused_in_one_safe_line(place: Place, kind: str) -> None:
    commands = {"policy": ("policy", "check"), "case": ("replay",), "vectors": ("power",)}
    for data in place.poisoned[kind].refused:
        place.write(kind, data)
        file = place.file(kind)
        fleet = ("plan", "--policy", "sglang-gemma4", "--fleet", file)
        plan = ("verify", "--policy", "sglang-gemma4", "--plan", file, "--sha", SHA)
        gate = ("verify", "--policy", "sglang-gemma4", "--plan", place.file("plan"), "--sha", SHA, "--speed", file)
        speed = ("report", "--speed", file)
        words = {"fleet": fleet, "plan": plan, "speed": speed, "paired": gate}.get(
            kind, (*commands.get(kind, ("report",)), file)
        )
        place.check(*words)


@pytest.mark.parametrize(
    "words",
    [
        (EVIL,),
        ("report", EVIL),
        ("replay", EVIL, "--backend", EVIL),
        ("power", EVIL),
        ("campaign", "--backend", EVIL),
        ("campaign", "--backend", "reference", "--family", EVIL),
        ("campaign", "--backend", "reference", "--model", EVIL),
        ("mutants", "--only", EVIL),
        ("mutants", "--model", EVIL),
        ("bench", "--candidate", EVIL, "--over", EVIL),
        ("bench", "--candidate", "triton", "--over", "triton", "--model", EVIL, "--policy", EVIL),
        ("build", "--sm", EVIL),
        ("build", "--sm", "9.0", "--family", EVIL),
        ("build", "--jobs", EVIL),
        ("plan", "--policy", EVIL),
        ("policy", "drift", "--engine", EVIL),
        ("verify", "--policy", "sglang-gemma4", "--plan", EVIL, "--sha", EVIL),
        ("merge", EVIL, "-o", EVIL),
        ("picture", EVIL),
        ("matrix", EVIL),
        ("verify-requests", EVIL),
    ],
)
def test_an_option_of_hostile_text(place: Place, words: tuple[str, ...]) -> None:
    place.check(*(word.replace("\x00", "") for word in words))


class Evil(ReferenceBackend):
    """A backend that says nothing but hostile text; how it ends is an attribute."""

    def __init__(self, name: str, how: str) -> None:
        self.name, self.how = name, how

    def supports(self, shape: object, platform: Platform) -> Unsupported | None:
        del shape, platform
        return Unsupported(EVIL) if self.how == "declines" else None

    def prepare(self, batch: Any) -> Any:  # noqa: ANN401 - of the reference
        inner, how = super().prepare(batch), self.how

        class Run:
            def run(self, layer: int, out: Any, lse: Any) -> str:  # noqa: ANN401 - tensors
                if how == "raises":
                    raise RuntimeError(EVIL)
                inner.run(layer, out, lse)
                if how == "wrong":
                    out.mul_(1.5)
                return EVIL

        return Run()


def a_session() -> Session:
    session = Session(platform=Platform(), profile=profile_named("replay"))

    def missing(platform: Platform) -> ReferenceBackend:
        del platform
        raise BackendUnavailableError(EVIL)

    for how in ("declines", "raises", "wrong", "right"):
        name = f"{how} {EVIL}"
        session.registry.register(name, lambda _platform, name=name, how=how: Evil(name, how))
    session.registry.register(f"missing {EVIL}", missing)
    return session


def evil_names(session: Session) -> Iterable[str]:
    return [name for name in session.registry.names if EVIL in name]


def test_backends_whose_every_word_is_hostile(place: Place) -> None:
    session, console = a_session(), Console()
    replay = Replay(session, place.file("case"))
    for line in replay.run(EVIL, SMALL.model_copy(update={"model": EVIL}), list(evil_names(session))):
        console.say(line)
    out = place.capsys.readouterr().out
    assert list(terminal_faults(out)) == []
    commands = _REPLAY.findall(out)
    assert len(commands) == 2
    for command in commands:
        assert list(shell_faults(command, place.folder)) == []


def test_the_doctor_of_such_backends(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    session = a_session()
    monkeypatch.setattr("attnconf.cli.doctor.make_session", lambda: replace(session))
    for form in (False, True):
        doctor(Namespace(json=form), Console())
        out = place.capsys.readouterr().out
        assert "wrong" in out
        assert list(terminal_faults(out)) == []
