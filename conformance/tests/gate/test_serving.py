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
    rest = len(errors) - completed
    lists = {"input_lens": [3] * len(errors), "output_lens": [5] * completed + [0] * rest}
    return {**result, **lists, "ttfts": [0.1] * completed + [0.0] * rest, "errors": errors}


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
        (
            vllm(1000, errors=[""] * 999 + ["x"]),
            "contradicts itself: 1001 requests accounted for, 1000 requests submitted",
        ),
        (vllm(998, failed=1), "contradicts itself: 998 completed and 1 failed, 1000 requests submitted"),
        (vllm(998, failed=0, errors=[None] * 998 + ["x"] * 2), "0 failed, 1000 requests submitted"),
        (vllm(999, failed=1, errors=[""] * 998 + ["x"] * 2), "1 failed, 2 with an error"),
        (vllm(0, num_prompts=0), "no request was submitted"),
        (vllm(0, num_prompts=2, errors=["down", "down"]), "none of 2 requests completed"),
    ],
)
def test_a_lost_request_is_red(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, result: dict[str, Any], sentence: str
) -> None:
    status, out, _ = verify(capsys, save(tmp_path, result))
    assert status == EXIT_NOT_MET == 10
    assert any(sentence in line for line in out.splitlines() if line.startswith("NOT MET: "))


def saved_in_detail(lens: list[int], **fields: object) -> dict[str, Any]:
    """Return vLLM's file with details, of 100 requests that all completed as it says."""
    lists = {"output_lens": lens, "errors": [""] * 100, "ttfts": [0.1 if length else 0.0 for length in lens]}
    return {**vllm(100, num_prompts=100, failed=0, total_output_tokens=sum(lens)), **lists, **fields}


@pytest.mark.parametrize(
    ("result", "sentence"),
    [
        (saved_in_detail([128] * 60 + [0] * 40), "100 requests completed, 60 with an output token in output_lens"),
        (saved_in_detail([128] * 60 + [0] * 40), "100 requests completed, 60 with a first token in ttfts"),
        (vllm(100, num_prompts=100, failed=0, total_output_tokens=0), "100 requests completed, 0 output tokens in all"),
        (vllm(100, num_prompts=100, total_output_tokens=99), "100 requests completed, 99 output tokens in all"),
        ({**sglang(100, [""] * 100), "output_lens": [128] * 90 + [0] * 10}, "90 with an output token in output_lens"),
        ({**sglang(99, [""] * 99 + ["x"]), "output_lens": [1] * 100}, "but 100 have output tokens in output_lens"),
        (saved_in_detail([128] * 100, total_output_tokens=12_801), "12801 output tokens in all, 12800 in output_lens"),
        (saved_in_detail([128] * 100, output_lens=[128] * 99), "100 requests submitted, 99 listed in output_lens"),
        (saved_in_detail([128] * 100, ttfts=[0.1] * 101), "100 requests submitted, 101 listed in ttfts"),
        (saved_in_detail([128] * 100, generated_texts=["x"]), "100 requests submitted, 1 listed in generated_texts"),
        (saved_in_detail([1] * 100, input_lens=[5] * 100, total_input_tokens=501), "501 input tokens in all, 500 in"),
        (vllm(300, num_prompts=100, failed=0), "300 requests accounted for, 100 requests submitted"),
    ],
)
def test_a_count_that_contradicts_another_is_red(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, result: dict[str, Any], sentence: str
) -> None:
    status, out, _ = verify(capsys, save(tmp_path, result))
    assert status == 10
    assert any(sentence in line for line in out.splitlines() if "NOT MET: " in line and "contradicts itself" in line)


CUT = [128] * 70 + [7] * 30
ASKED = {"dataset_name": "random", "random_output_len": 128}


def test_a_cut_stream_cannot_be_told_where_the_file_does_not_say_what_was_asked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = save(tmp_path, saved_in_detail(CUT))
    status, out, _ = verify(capsys, path)
    assert status == 0
    assert "CANNOT TELL: " in out
    assert "its lengths are from 7 to 128, and --output-len says what was asked" in out
    assert cli.main(["verify-requests", "--output-len", "128", str(path)]) == 10
    out = capsys.readouterr().out
    assert "NOT MET" in out
    assert "30 requests ended before the 128 output tokens that were asked for, one with 7" in out
    assert "CANNOT TELL" not in out


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({**ASKED, "random_range_ratio": 1.0}, 10),
        ({**ASKED, "random_range_ratio": 0.5}, 10),
        ({**ASKED, "random_range_ratio": 0.0}, 0),
        ({"dataset_name": "sharegpt", "sharegpt_output_len": 128}, 10),
        ({"dataset_name": "sharegpt", "sharegpt_output_len": None}, 0),
    ],
)
def test_a_cut_stream_is_red_where_the_file_says_what_was_asked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, fields: dict[str, Any], status: int
) -> None:
    result = {**sglang(100, [""] * 100), "output_lens": CUT, **fields}
    assert verify(capsys, save(tmp_path, result))[0] == status


def aiperf(completed: int, failed: int, asked: int | None = 100, **fields: object) -> dict[str, Any]:
    """Return AIPerf's summary, profile_export_aiperf.json."""
    head = {"schema_version": "1.5", "aiperf_version": "0.12.0", "was_cancelled": False}
    counts = {"request_count": {"unit": "requests", "avg": float(completed)}}
    config = {} if asked is None else {"loadgen": {"request_count": asked}}
    errors = {"error_request_count": {"unit": "requests", "avg": float(failed)}} if failed else {}
    return {**head, **counts, **errors, "input_config": config, **fields}


def summary(count: int) -> list[dict[str, Any]]:
    return [{"error_details": {"code": 503, "type": "Overloaded", "message": "try again"}, "count": count}]


OUTPUT = {"input": {"prompt": {"output_tokens": {"mean": 128, "stddev": 0}}}, "loadgen": {"request_count": 100}}


@pytest.mark.parametrize(
    ("result", "status", "sentence"),
    [
        (aiperf(100, 0), 0, "100 submitted, 100 completed, 0 explained"),
        (aiperf(97, 3, error_summary=summary(3)), 0, "3 explained (3 Overloaded: try again)"),
        (aiperf(97, 3), 10, "3 of 100 requests submitted are neither completed nor explained"),
        (aiperf(97, 3, None), 10, "3 of 100 requests submitted are neither"),
        (aiperf(97, 3, error_summary=summary(2)), 10, "1 of 100 requests submitted is neither"),
        (aiperf(98, 2, error_summary=summary(3)), 10, "2 failed, 3 with an error"),
        (aiperf(97, 0), 10, "3 of 100 requests submitted are neither"),
        (aiperf(100, 0, was_cancelled=True), 10, "the run was cancelled before its end"),
        (aiperf(100, 0, output_sequence_length={"unit": "tokens", "min": 0}), 10, "at least without an output token"),
        (
            aiperf(100, 0, input_config=OUTPUT, output_sequence_length={"min": 7.0}),
            10,
            "a request ended before the 128 output tokens that were asked for, with 7",
        ),
        ({"records": aiperf(97, 3), "input_config": {"loadgen": {"request_count": 100}}}, 10, "3 of 100 requests"),
        (
            {"request_count": {"unit": "requests", "avg": 5}, "input_config": {"request_count": 6}},
            10,
            "1 of 6 requests",
        ),
    ],
)
def test_nvidias_summaries(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, result: dict[str, Any], status: int, sentence: str
) -> None:
    found, out, err = verify(capsys, save(tmp_path, result))
    assert (found, err) == (status, "")
    assert sentence in out


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
        ('{"completed": 1, "output_lens": [1, true]}', "output_lens"),
        ('{"completed": 1, "output_lens": [1.5]}', "output_lens"),
        ('{"completed": 1, "ttfts": ["0.1"]}', "ttfts"),
        ('{"request_count": {"avg": 1.5}}', "request_count.avg"),
        ('{"request_count": 3}', "request_count"),
        ('{"request_count": {"avg": 1}, "error_summary": [3]}', "error_summary"),
        ('{"output_sequence_length": {"min": 3}}', "request_count is missing"),
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
