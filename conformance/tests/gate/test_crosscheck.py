"""A ledger, a client's result and a server's own metrics are held against each other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from attnconf.cli import main as cli
from attnconf.gate.serving.ledger import Ledger, LedgerEntry
from attnconf.gate.serving.metrics import read_metrics

if TYPE_CHECKING:
    from pathlib import Path

VLLM = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 0.0
vllm:num_requests_running{engine="1",model_name="m"} RUNNING
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 7.0
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 300.0
vllm:request_success_total{engine="1",finished_reason="length",model_name="m"} FINISHED
vllm:request_success_total{engine="0",finished_reason="abort",model_name="m"} 2.0
vllm:request_success_total{engine="0",finished_reason="error",model_name="m"} 0.0
vllm:request_success_created{engine="0",finished_reason="stop",model_name="m"} 1.7e+09
vllm:request_queue_time_seconds_bucket{engine="0",le="0.3",model_name="m"} 12.0
vllm:gpu_cache_usage_perc{engine="0"} 0.5
"""
SGLANG = """sglang:num_requests_total{is_streaming="true",model_name="m"} ENDED
sglang:num_aborted_requests_total{model_name="m"} ABORTS
sglang:num_running_reqs{model_name="m"} 0.0
sglang:num_queue_reqs{model_name="m"} 0.0
"""


def vllm(folder: Path, finished: int = 700, running: int = 0, name: str = "metrics.txt") -> Path:
    path = folder / name
    path.write_text(VLLM.replace("FINISHED", f"{finished}.0").replace("RUNNING", f"{running}.0"))
    return path


def bench(folder: Path, completed: int = 1000, errors: int = 0) -> Path:
    path = folder / "bench.json"
    lists = {"errors": [""] * completed + ["gone"] * errors, "output_lens": [5] * completed + [0] * errors}
    path.write_text(json.dumps({"num_prompts": completed + errors, "completed": completed, **lists}))
    return path


def ledger(folder: Path, finished: int, *others: LedgerEntry) -> Path:
    path = folder / "ledger.json"
    entries = [LedgerEntry(request=str(one), ended="finished", output_tokens=5) for one in range(finished)]
    Ledger(requests=(*entries, *others)).write(path)
    return path


def verify(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str]:
    status = cli.main(["verify-requests", "--output-len", "5", *map(str, words)])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_counts_that_agree_are_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = verify(
        capsys, bench(tmp_path), "--ledger", ledger(tmp_path, 1000), "--metrics", vllm(tmp_path), "--extra", 0
    )
    assert (status, "NOT MET" in said, "CANNOT TELL" in said) == (0, False, False)
    assert f"{tmp_path / 'metrics.txt'}: 1000 finished, 2 aborted, 0 running, 0 waiting" in said


@pytest.mark.parametrize(
    ("server", "words", "said"),
    [
        ({"finished": 699}, (), "contradict each other: 1000 requests completed, 999 finished"),
        ({"running": 1}, (), "1 request is still running, so not all have ended"),
        ({"finished": 702}, ("--extra", 0), "contradict each other: 1002 finished, 1001 requests accounted for"),
        ({"finished": 700}, ("--extra", 3), "1000 requests and 3 beside completed, 1000 finished"),
    ],
)
def test_a_server_that_counts_otherwise_is_not_met(
    server: dict[str, int], words: tuple[object, ...], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    errors = 1 if "--extra" in words and server.get("finished") == 702 else 0
    status, text = verify(capsys, bench(tmp_path, errors=errors), "--metrics", vllm(tmp_path, **server), *words)
    assert status == 10
    assert said in text


def test_more_than_the_client_counts_may_be_a_warm_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = verify(capsys, bench(tmp_path), "--metrics", vllm(tmp_path, finished=701))
    assert status == 0
    assert "counts 1 request more than completed, of a warm-up perhaps: --extra says how many" in said
    assert verify(capsys, bench(tmp_path), "--metrics", vllm(tmp_path, finished=701), "--extra", 1)[0] == 0


def test_what_was_counted_before_is_taken_away(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after = vllm(tmp_path, 40, name="before.txt"), vllm(tmp_path, 1040)
    words = ("--metrics", after, "--metrics-before", before, "--extra", 0)
    assert verify(capsys, bench(tmp_path), *words)[0] == 0
    status, said = verify(capsys, bench(tmp_path), "--metrics", before, "--metrics-before", after)
    assert (status, "metrics of one server, which did not restart" in said) == (2, True)
    status, said = verify(capsys, bench(tmp_path), "--metrics-before", after)
    assert (status, "without --metrics; allowed: both" in said) == (2, True)


@pytest.mark.parametrize(("ended", "aborts", "status"), [(1000, 0, 0), (1003, 3, 0), (999, 0, 10), (1003, 1, 10)])
def test_sglangs_counts_bound_what_finished(
    ended: int, aborts: int, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "metrics.txt"
    path.write_text(SGLANG.replace("ENDED", f"{ended}.0").replace("ABORTS", f"{aborts}.0"))
    assert verify(capsys, bench(tmp_path), "--metrics", path, "--extra", 0)[0] == status


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([], ""),
        ([LedgerEntry(request="a")], "1 of 4 requests submitted is neither completed nor explained"),
        ([LedgerEntry(request="a", ended="refused")], "1 of 4 requests submitted is neither completed nor explained"),
        ([LedgerEntry(request="0", ended="finished", output_tokens=5)], "3 requests submitted, 4 listed in requests"),
        (
            [LedgerEntry(request="a", ended="finished", output_tokens=3, asked_tokens=5)],
            "1 of 4 requests submitted is neither completed nor explained",
        ),
        ([LedgerEntry(request="a", ended="aborted", reason="by the client")], ""),
        ([LedgerEntry(request="a", ended="finished", output_tokens=5, asked_tokens=9, reason="stop token")], ""),
    ],
)
def test_a_ledger_loses_no_request(
    others: list[LedgerEntry], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, text = verify(capsys, ledger(tmp_path, 3, *others))
    assert status == (10 if said else 0), text
    assert said in text


def test_a_ledger_is_held_against_client_and_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gone = [LedgerEntry(request=f"g{one}", ended="aborted", reason="gone") for one in range(3)]
    path = ledger(tmp_path, 999, *gone)
    status, said = verify(capsys, bench(tmp_path), "--ledger", path, "--metrics", vllm(tmp_path), "--extra", 0)
    assert status == 10
    assert "ledger.json contradict each other: 1000 requests completed, 999 finished" in said
    assert "metrics.txt contradict each other: 999 requests finished, and 1000 finished" in said
    assert "metrics.txt contradict each other: 3 requests aborted, and 2 aborted" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it counts no requests; allowed: vllm:request_success_total or sglang:num_requests_total"),
        ("up 1\n", "it counts no requests"),
        ("<html>\n", "line 1 is '<html>'; allowed: a line of Prometheus' text format"),
        ('vllm:request_success_total{finished_reason="stop"} NaN\n', "line 1 is 'NaN'; allowed: a count"),
        ('vllm:request_success_total{finished_reason="stop"} 1.5\n', "line 1 is '1.5'; allowed: a count"),
        ('vllm:request_success_total{finished_reason="bored"} 2\n', "2 requests ended for another reason"),
    ],
)
def test_what_is_no_metrics_is_one_sentence(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "metrics.txt"
    path.write_text(text)
    status, found = verify(capsys, bench(tmp_path), "--metrics", path)
    assert status == 2
    assert f"{path}: " in found
    assert said in found


def test_labels_are_summed_and_other_metrics_are_left_alone(tmp_path: Path) -> None:
    counts = read_metrics(vllm(tmp_path, 700, 4))
    assert (counts.finished, counts.aborted, counts.failed, counts.running, counts.waiting) == (
        (1000, 1000),
        2,
        0,
        4,
        0,
    )


def test_the_machines_ledger_is_verified(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ledger.json"
    assert cli.main(["machine", "--steps", "300", "--judge-every", "0", "--ledger", str(path)]) == 0
    assert f"attnconf verify-requests {path}" in capsys.readouterr().out
    assert cli.main(["verify-requests", str(path)]) == 0
    said = capsys.readouterr().out
    assert "explained" in said
    assert "CANNOT TELL" not in said
    data: dict[str, Any] = json.loads(path.read_text())
    lost = next(one for one in data["requests"] if one["ended"] == "finished")
    del lost["ended"]
    path.write_text(json.dumps(data))
    assert cli.main(["verify-requests", str(path)]) == 10
    assert "neither completed nor explained" in capsys.readouterr().out
