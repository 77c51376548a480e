"""Request conservation: what is submitted completes or is explained, or the result is red."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from attnconf.cli import main as cli
from attnconf.cli.statuses import EXIT_NOT_MET

TRACEBACK = "Traceback (most recent call last):\n  File 'x.py', line 3\naiohttp.ServerDisconnectedError: gone\n"


def sglang(completed: int, errors: list[str | None] | None) -> dict[str, Any]:
    """Return a line of bench_serving's file; ``errors`` are there with --output-details only."""
    result = {"tag": None, "backend": "sglang", "request_rate": float("inf"), "duration": 2.5, "completed": completed}
    if errors is None:
        return result
    lists = {"input_lens": [3] * len(errors), "output_lens": [5] * len(errors), "ttfts": [0.1] * len(errors)}
    return {**result, **lists, "errors": errors}


def vllm(completed: int, num_prompts: int = 1000, **fields: object) -> dict[str, Any]:
    """Return the file of vllm bench serve."""
    head = {"date": "20261101-120000", "backend": "vllm", "model_id": "m", "num_prompts": num_prompts}
    return {**head, "request_rate": "inf", "duration": 2.5, "completed": completed, **fields}


def verify(capsys: pytest.CaptureFixture[str], *paths: Path) -> tuple[int, str, str]:
    status = cli.main(["verify-requests", *map(str, paths)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def save(folder: Path, *results: object, name: str = "b.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(json.dumps(result) for result in results) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "result",
    [
        sglang(1000, [""] * 1000),
        sglang(998, [""] * 998 + ["Service Unavailable", TRACEBACK]),
        vllm(1000),
        vllm(1000, failed=0),
        vllm(999, errors=[""] * 999 + ["Internal Server Error"], failed=1),
        vllm(997, aborted="3"),
        vllm(997, aborted=3, failed=3),
    ],
)
def test_every_request_accounted_for_is_green(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, result: dict[str, Any]
) -> None:
    status, out, err = verify(capsys, save(tmp_path, result))
    assert (status, err) == (0, "")
    assert "1000 submitted" in out
    assert "NOT MET" not in out


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (sglang(999, [""] * 1000), "1 of 1000 requests submitted is neither completed nor explained"),
        (sglang(999, [*[""] * 999, None]), "1 of 1000 requests submitted is neither completed nor explained"),
        (sglang(999, [*[""] * 999, " \n"]), "1 of 1000 requests submitted is neither"),
        (
            vllm(999),
            "1 of 1000 requests submitted is neither completed nor explained; run vLLM's benchmark with --save",
        ),
        (vllm(998, failed=2), "2 of 1000 requests submitted are neither completed nor explained"),
        (vllm(998, errors=[""] * 999 + ["refused"]), "1 of 1000 requests submitted is neither"),
        (sglang(1000, None), "does not say how many requests were submitted"),
        (vllm(999, errors=[""] * 999), "contradicts itself: 1000 requests submitted, 999 recorded"),
        (vllm(1000, errors=[""] * 999 + ["x"]), "contradicts itself: 1001 requests accounted for, 1000 submitted"),
        (vllm(0, num_prompts=0), "no request was submitted"),
        (vllm(0, num_prompts=2, errors=["down", "down"]), "none of 2 requests completed"),
    ],
)
def test_a_lost_request_is_red(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, result: dict[str, Any], sentence: str
) -> None:
    status, out, _ = verify(capsys, save(tmp_path, result))
    assert status == EXIT_NOT_MET == 10
    (complaint, *_) = [line for line in out.splitlines() if line.startswith("NOT MET: ")]
    assert sentence in complaint


def test_reasons_are_counted_the_most_frequent_first(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    errors = ["Bad Request", TRACEBACK, TRACEBACK, *(f"reason {i}" for i in range(10)), "\x1b[31m"]
    status, out, _ = verify(capsys, save(tmp_path, sglang(6, ["", *errors, *[""] * 5])))
    assert status == 0
    assert "14 explained (2 aiohttp.ServerDisconnectedError: gone; 1 \\x1b[31m; 1 Bad Request; " in out
    assert "; 3 for 3 other reasons)" in out


def test_every_result_of_every_file_is_judged(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    several = save(tmp_path, sglang(2, ["", ""]), sglang(1, ["", ""]), name="two.jsonl")
    indented = tmp_path / "one.json"
    indented.write_text(json.dumps(vllm(4, num_prompts=4), indent=2), encoding="utf-8")
    status, out, _ = verify(capsys, several, indented)
    assert status == 10
    assert f"{several}, result 1: 2 submitted, 2 completed" in out
    assert f"NOT MET: {several}, result 2: 1 of 2 requests" in out
    assert f"{indented}: 4 submitted, 4 completed, 0 explained" in out


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("[1]", "list"),
        ('{"completed": 3}\n{"compl', "line 2"),
        ('{"num_prompts": 3}', "completed is missing"),
        ('{"completed": true}', "completed is True"),
        ('{"completed": -1}', "completed is -1"),
        ('{"completed": 1, "num_prompts": "1"}', "num_prompts"),
        ('{"completed": 1, "errors": [3]}', "errors"),
        ('{"completed": 1, "aborted": "\u0663"}', "aborted"),
        ('{"completed": ' + "9" * 5000 + "}", "cannot be parsed"),
        ("[" * 100_000, "cannot be parsed"),
    ],
)
def test_a_file_that_is_no_result_exits_2_in_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, word: str
) -> None:
    path = tmp_path / "b.json"
    path.write_text(text, encoding="utf-8")
    status, out, err = verify(capsys, path)
    assert (status, out) == (2, "")
    assert err.count("\n") == 1
    assert "b.json" in err
    assert word in err


def test_a_missing_file_exits_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, _, err = verify(capsys, save(tmp_path, vllm(1000)), tmp_path / "gone.json")
    assert status == 2
    assert "gone.json" in err
