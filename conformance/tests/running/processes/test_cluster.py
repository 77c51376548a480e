"""A cluster of two workers of this machine: the same cases and verdicts, and what fells one piece fells no other."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from distributed import Client, LocalCluster

from attnconf.cli.main import main
from attnconf.platforms import Platform
from attnconf.running.processes.cluster import Cluster, ClusterError
from attnconf.running.processes.engine import LostError
from conformance.tests.support import crewmates

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMES = {"seconds", "build_seconds"}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        yield cluster.scheduler_address


def without_times(data: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(data, dict):
        return {name: without_times(value) for name, value in data.items() if name not in TIMES}
    return [without_times(one) for one in data] if isinstance(data, list) else data


def test_a_campaign_reports_the_same_on_one_process_and_on_two_workers(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attnconf.running.campaigns.campaign.LEAST_SHARE", 2)
    asked = ["campaign", "--backend", "reference", "--examples", "6", "--seed", "5", "--json"]
    assert main([*asked, str(tmp_path / "one.json")]) == 0
    assert main([*asked, str(tmp_path / "two.json"), "--cluster", address]) == 0
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert one["cases"] > 2  # of more than one share
    assert without_times(one) == without_times(two)


def test_mutants_are_caught_by_the_same_cases(address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = ("--only", "window-one-more", "--only", "window-short-in-decode")
    asked = ["mutants", "--profile", "smoke", "--model", "gemma4-e2b", *only, "--json"]
    status = main([*asked, str(tmp_path / "one.json"), "--jobs", "1"])
    assert main([*asked, str(tmp_path / "two.json"), "--cluster", address]) == status == 0, capsys.readouterr().out
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert without_times(one) == without_times(two)


def test_a_piece_that_ends_its_process_costs_itself_and_one_that_spoils_it_restarts_it(address: str) -> None:
    pieces = ["a", "die", "spoil", "b", "c", "die", "d", "e"]
    with Cluster(address) as cluster:
        assert cluster.size == 2
        came = dict(cluster.map(crewmates.work, pieces, spoils=crewmates.half_spoils))
    found = [came[number] for number in range(len(pieces))]
    assert [isinstance(one, LostError) for one in found] == [piece == "die" for piece in pieces]
    lived = [one for one in found if not isinstance(one, LostError)]
    assert [one[0] for one in lived] == [piece for piece in pieces if piece != "die"]
    spoilt = next(process for piece, process, _, _ in lived if piece == "spoil")
    behind = lived[[one[0] for one in lived].index("spoil") + 1 :]
    assert spoilt not in {process for _, process, _, _ in behind}


def test_what_the_work_raises_is_raised(address: str) -> None:
    with Cluster(address) as cluster, pytest.raises(ValueError, match="no"):
        list(cluster.map(crewmates.fail, ["no"]))


def test_a_worker_that_dies_costs_the_piece_it_had_and_another_takes_its_place(address: str) -> None:
    with Cluster(address) as cluster:
        found = dict(cluster.map(crewmates.fell, [os.getpid(), *["a"] * 4]))
    assert isinstance(found[0], LostError), found
    assert [found[number] for number in range(1, 5)] == ["a"] * 4


def test_a_worker_with_another_attnconf_is_refused_in_a_sentence(
    address: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["mutants", "--profile", "smoke", "--cluster", address]
    monkeypatch.setattr("attnconf.running.processes.cluster.__version__", "9.9")
    assert main(asked) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "has attnconf 0.1.0, and this command 9.9" in told
    monkeypatch.undo()
    monkeypatch.setattr("attnconf.running.processes.cluster._files_here", lambda: "0" * 64)
    assert main(asked) == 2
    assert "has other files of attnconf 0.1.0 than this command" in capsys.readouterr().err


def test_workers_on_different_machines_are_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machines = [Platform(), Platform(device="NVIDIA H100", sm=(9, 0), cuda="13.0")]
    monkeypatch.setattr(Cluster, "everywhere", lambda *_: machines)
    with Client(address) as client:
        client.wait_for_workers(2, timeout=60)  # a test before this one may have ended some
    with pytest.raises(ClusterError, match=r"is cpu, .* NVIDIA H100 with CUDA 13\.0.*equal machines"):
        Cluster(address)


def test_an_address_where_nothing_answers_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("attnconf.running.processes.cluster._CONNECT_SECONDS", 0.2)
    for wrong in ("tcp://127.0.0.1:1", "no address", ""):
        assert main(["campaign", "--backend", "reference", "--cluster", wrong]) == 2
        told = capsys.readouterr().err
        assert told.startswith("attnconf: --cluster: ")
        assert told.endswith("allowed: the address of a Dask scheduler that runs, such as tcp://host:8786\n")
        assert told.count("\n") == 1


def test_without_dask_the_option_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "distributed", None)
    assert main(["campaign", "--backend", "reference", "--cluster", "tcp://h:1"]) == 2
    assert capsys.readouterr().err == "attnconf: --cluster needs Dask: pip install 'attnconf[cluster]'\n"
