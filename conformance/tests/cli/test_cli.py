"""The command line, called in process: what it prints, and how it exits."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attnconf.backends.protocol import Prepared
from attnconf.backends.reference import ReferenceBackend
from attnconf.backends.registry import Registry
from attnconf.cases.case import Case, Layer, Poison
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.inputs.batch import Batch
from attnconf.cases.request import Request
from attnconf.cli import main as cli
from attnconf.cli.statuses import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_NOTHING_EXECUTED, EXIT_POLICY_INVALID
from attnconf.gate.cells import Cell
from attnconf.platforms import detect
from attnconf.running.session import Session

SMALL = Case(
    mode="decode",
    layers=(Layer(kind="sliding", window_left=7, num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25),),
    requests=(Request(prefix_len=20), Request(prefix_len=3)),
    poison=Poison(k="nan", v="huge"),
)


class OneKeyTooMany(ReferenceBackend):
    """Reads a sliding window of one key more, and a full layer as if it had a window of 5."""

    name = "broken"

    def prepare(self, batch: Batch) -> Prepared:
        layers = tuple(
            replace(
                layer,
                geometry=layer.geometry.model_copy(update={"window_left": max(5, layer.geometry.window_left + 1)}),
            )
            for layer in batch.layers
        )
        return super().prepare(replace(batch, layers=layers))


def broken_session(raises: Exception | None = None) -> Session:
    session = Session(platform=detect(), profile=profile_named("replay"))

    def make(_platform: object) -> OneKeyTooMany:
        if raises is not None:
            raise raises
        return OneKeyTooMany()

    session.registry.register("broken", make)
    return session


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that runs ``attnconf`` and returns its exit status, stdout and stderr."""

    def _run(*arguments: str | Path) -> tuple[int, str, str]:
        try:
            status = cli.main([str(argument) for argument in arguments])
        except SystemExit as stop:
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return _run


def save(folder: Path, data: object, name: str = "case.json") -> Path:
    path = folder / name
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def assert_refused(answer: tuple[int, str, str], status: int, *words: str) -> None:
    assert answer[0] == status
    assert answer[2].count("\n") == 1, answer[2]
    assert "Traceback" not in answer[2]
    assert answer[2].strip().isprintable()
    assert all(word in answer[2] for word in words), answer[2]


def test_doctor_names_every_backend_and_the_remedies(run: Run) -> None:
    status, out, _ = run("doctor")
    assert status == 0
    assert all(name in out for name in ("reference", "triton", "trtllm_mha"))


def test_the_command_line_is_imported_without_torch() -> None:
    code = "import sys, attnconf.cli.main; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603 - fixed


def test_doctor_speaks_json(run: Run) -> None:
    found = json.loads(run("doctor", "--json")[1])
    status = {backend["name"]: backend["status"] for backend in found["backends"]}
    assert status["reference"] == "works"
    assert set(status) == set(Registry().names)
    assert all(one["what"] and one["remedy"] for one in found["missing"])


def test_doctor_fails_for_a_wrong_backend(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnconf.cli.doctor.make_session", broken_session)
    status, out, _ = run("doctor", "--json")
    assert status == EXIT_FAILED
    assert next(one for one in json.loads(out)["backends"] if one["name"] == "broken")["status"] == "fails"


def test_doctor_names_a_backend_that_cannot_start(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "attnconf.cli.doctor.make_session", lambda: broken_session(raises=RuntimeError("no such device"))
    )
    found = json.loads(run("doctor", "--json")[1])
    broken = next(one for one in found["backends"] if one["name"] == "broken")
    assert broken["status"] == "unavailable"
    assert "no such device" in broken["detail"]


def test_replay_judges_a_case_on_every_backend(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("replay", save(tmp_path, SMALL.to_data()))
    assert status == 0
    assert SMALL.id in out
    assert "reference, kernel evidence" in out
    assert "layer 0 sliding        passed" in out
    assert "window" in out
    assert out.endswith("layers judged, 0 failed\n")


def test_replay_of_a_failing_case_fails_again_with_its_message(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnconf.cli.replay.make_session", broken_session)
    path = save(tmp_path, SMALL.to_data())
    first = run("replay", path, "--backend", "broken")
    assert first[0] == EXIT_FAILED
    assert "clause 2 (window)" in first[1]
    assert f"replay: attnconf replay {path} --backend broken" in first[1]
    assert run("replay", path, "--backend", "broken") == first


def test_replay_that_executes_nothing_says_so(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "attnconf.cli.replay.make_session", lambda: broken_session(raises=RuntimeError("no such device"))
    )
    status, out, err = run("replay", save(tmp_path, SMALL.to_data()), "--backend", "broken")
    assert status == EXIT_NOTHING_EXECUTED
    assert "not_run: " in out
    assert "nothing was executed" in err


def test_replay_reads_a_folder_of_cases(run: Run, tmp_path: Path) -> None:
    save(tmp_path, SMALL.to_data(), "one.json")
    save(tmp_path, SMALL.model_copy(update={"seed": 2}).to_data(), "two.json")
    status, out, _ = run("replay", tmp_path, "--backend", "reference")
    assert status == 0
    assert "2 layers judged" in out


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "line 1"),
        ("[]", "dictionary"),
        ('{"seed": ' + "9" * 5000 + "}", "digits"),
        ("[" * 100_000, "nested"),
        ("\x00\xff", "JSON"),
    ],
)
def test_replay_of_no_case_is_one_sentence(run: Run, tmp_path: Path, text: str, word: str) -> None:
    assert_refused(run("replay", save(tmp_path, text)), EXIT_BAD_INPUT, "case.json", word)


def test_replay_of_no_file_is_one_sentence(run: Run, tmp_path: Path) -> None:
    assert_refused(run("replay", tmp_path / "gone.json"), EXIT_BAD_INPUT, "gone.json", "No such file")
    assert_refused(run("replay", tmp_path), EXIT_BAD_INPUT, "no case files")


def test_replay_on_an_unknown_backend_is_one_sentence(run: Run, tmp_path: Path) -> None:
    path = save(tmp_path, SMALL.to_data())
    assert_refused(run("replay", path, "--backend", "x\n\x1b[31m"), EXIT_BAD_INPUT, ", ".join(Registry().names))


def test_a_case_beyond_this_machine_is_refused(run: Run, tmp_path: Path) -> None:
    data = SMALL.to_data()
    data["requests"][0]["prefix_len"] = 10**12
    assert_refused(run("replay", save(tmp_path, data)), EXIT_BAD_INPUT, "host memory")


def test_plan_for_this_machine_and_for_another(run: Run) -> None:
    here = json.loads(run("plan", "--policy", "sglang-gemma4", "--json")[1])
    there = json.loads(run("plan", "--policy", "sglang-gemma4", "--sm", "10.0", "--json")[1])
    assert "simulated" not in here["platform"]
    assert there["platform"] == "SM 10.0 with CUDA 13.0 (simulated)"
    assert {"trtllm_mha"} <= {one["cell"]["backend"] for one in there["here"]}


def test_plan_in_words(run: Run) -> None:
    status, out, _ = run("plan", "--policy", "sglang-gemma4", "--sm", "10.0")
    assert status == 0
    assert "trtllm_mha, by rule sm100" in out


def test_plan_respects_the_users_choice(run: Run) -> None:
    out = run("plan", "--policy", "sglang-gemma4", "--sm", "10.0", "--decode-backend", "triton")[1]
    assert "trtllm_mha (prefill) and triton (decode)" in out


def test_plan_of_an_invalid_policy_exits_11(run: Run, tmp_path: Path) -> None:
    assert_refused(run("plan", "--policy", "nope"), EXIT_POLICY_INVALID, "policy invalid", "sglang-gemma4")
    path = save(tmp_path, "rules = 3", "p.toml")
    assert_refused(run("plan", "--policy", path), EXIT_POLICY_INVALID, "p.toml")


def test_plan_for_no_platform_is_one_sentence(run: Run) -> None:
    assert_refused(run("plan", "--policy", "sglang-gemma4", "--sm", "ten"), EXIT_BAD_INPUT, "major.minor")
    assert_refused(run("plan", "--policy", "sglang-gemma4", "--cuda", "12.8"), EXIT_BAD_INPUT, "--sm")


@pytest.mark.parametrize("arguments", [(), ("dance\n",), ("replay",), ("plan", "--policy"), ("doctor", "\x1b[2J")])
def test_a_wrong_command_line_is_one_sentence(run: Run, arguments: tuple[str, ...]) -> None:
    assert_refused(run(*arguments), EXIT_BAD_INPUT)


def cell(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of a cell
    counts = dict.fromkeys(("failed", "unsupported", "refused", "crashed", "oom", "not_run", "contract_only"), 0)
    base = {
        "backend": "triton",
        "model": "free",
        "layer_kind": "full",
        "mode": "decode",
        "q_dtype": "bfloat16",
        "kv_dtype": "bfloat16",
        "features": (),
        "executed": 3,
        "passed": 3,
        "worst_units": 0.4,
        "reasons": {},
    }
    return Cell.model_validate({**base, **counts, **changes}).model_dump(mode="json")


def receipt(*cells: dict[str, Any]) -> dict[str, Any]:
    where = dict.fromkeys(("sm", "cuda", "driver", "torch", "triton", "flashinfer", "flashinfer_cubin"))
    return {
        "schema": "attnconf.receipt/1",
        "git_sha": None,
        "platform": {"device": "cpu", "python": "3.11", **where},
        "policy": None,
        "profile": "smoke",
        "seed": 0,
        "started": "2026-01-01T00:00:00Z",
        "seconds": 1,
        "cells": cells,
    }


NOT_RUN = {"executed": 0, "passed": 0, "not_run": 3, "worst_units": None, "reasons": {"not_run: no $GPU$ \u2028": 3}}


def test_picture_of_a_receipt(run: Run, tmp_path: Path) -> None:
    contract = cell(backend="trtllm_mha", evidence="contract", passed=0, contract_only=3)
    wrong = cell(mode="extend", passed=1, failed=2, worst_units="inf")
    path = save(tmp_path, receipt(cell(), wrong, contract, cell(backend="$x$\n\x1b", **NOT_RUN)))
    for name in ("out/a.png", "a.svg"):
        status, out, _ = run("picture", path, "-o", tmp_path / name)
        assert status == 0
        assert out.strip() == str(tmp_path / name)
        assert (tmp_path / name).stat().st_size > 1000


def test_picture_of_nothing(run: Run, tmp_path: Path) -> None:
    path = save(tmp_path, receipt())
    assert run("picture", path, "-o", tmp_path / "a.png")[0] == 0


def test_picture_of_no_receipt_is_one_sentence(run: Run, tmp_path: Path) -> None:
    path = save(tmp_path, receipt(cell()))
    assert_refused(run("picture", path, "-o", tmp_path / "a.exe"), EXIT_BAD_INPUT, ".png")
    assert_refused(run("picture", path, "-o", path / "a.png"), EXIT_BAD_INPUT, "cannot be written")
    assert_refused(run("picture", save(tmp_path, SMALL.to_data(), "c.json")), EXIT_BAD_INPUT, "c.json")


def test_an_empty_file_among_the_cases_is_said_and_left_out(run: Run, tmp_path: Path) -> None:
    save(tmp_path, json.dumps(SMALL.to_data()))
    (tmp_path / "cut.json").touch()
    status, out, err = run("replay", tmp_path, "--backend", "reference")
    assert (status, err) == (0, f"attnconf: {tmp_path}/cut.json is empty, and left out\n")
    assert "1 layer judged, 0 failed" in out


@pytest.mark.parametrize(
    "command", [("campaign", "--backend", "reference"), ("mutants",), ("power", "{case}")], ids=lambda names: names[0]
)
def test_a_result_that_could_not_be_written_is_refused_at_the_start(
    run: Run, tmp_path: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = save(tmp_path, json.dumps(SMALL.to_data()))
    monkeypatch.setattr("attnconf.cli.campaign.open_engine", None)
    monkeypatch.setattr("attnconf.cli.mutants._hunted", None)
    monkeypatch.setattr("attnconf.cli.power.make_session", None)
    words = [word.format(case=case) for word in command]
    answer = run(*words, "--json", tmp_path / "no" / "such.json")
    assert_refused(answer, EXIT_BAD_INPUT, "no/such.json: cannot be written (No such file or directory)")
