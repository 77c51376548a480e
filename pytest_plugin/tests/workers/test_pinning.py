"""One GPU a worker, chosen from what the caller sees."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from attnconf.running.processes.gpus import VISIBLE
from pytest_attnconf.workers import pinning


@pytest.mark.parametrize(
    ("profile", "worker", "seen"),
    [
        ("gate", "gw1", "GPU-b"),
        (None, "gw1", "GPU-a,GPU-b"),
        ("gate", "", "GPU-a,GPU-b"),
        ("gate", "master", "GPU-a,GPU-b"),
        ("gate", "gw2", "GPU-a"),
    ],
)
def test_only_a_worker_of_a_run_that_asks_is_pinned(
    monkeypatch: pytest.MonkeyPatch, profile: str | None, worker: str, seen: str
) -> None:
    monkeypatch.setenv(VISIBLE, "GPU-a,GPU-b")
    monkeypatch.setenv(pinning.WORKER, worker)
    config = SimpleNamespace(known_args_namespace=SimpleNamespace(attnconf_profile=profile, file_or_dir=[]))
    pinning.pytest_load_initial_conftests(config)
    assert os.environ[VISIBLE] == seen


@pytest.mark.parametrize(
    ("profile", "listed", "workers"), [("gate", "0,1,2", 3), ("gate", "", None), (None, "0,1,2", None)]
)
def test_auto_means_one_worker_a_gpu(
    monkeypatch: pytest.MonkeyPatch, profile: str | None, listed: str, workers: int | None
) -> None:
    monkeypatch.setenv(VISIBLE, listed)
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    config = SimpleNamespace(option=SimpleNamespace(attnconf_profile=profile), args=[])
    assert pinning.pytest_xdist_auto_num_workers(config) == workers
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "2")
    assert pinning.pytest_xdist_auto_num_workers(config) is None


def test_the_header_says_who_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VISIBLE, "GPU-a,GPU-b")
    assert pinning.pinning_line(0) is None
    assert pinning.pinning_line(2) == "one GPU a worker: GPU-a, GPU-b"
    assert pinning.pinning_line(3) == "3 workers share 2 GPUs, in turn: GPU-a, GPU-b"
    monkeypatch.setenv(VISIBLE, "")
    assert pinning.pinning_line(3) is None
