"""One GPU a worker, chosen from what the caller sees."""

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from pytest_attnconf import pinning

if TYPE_CHECKING:
    from pathlib import Path

SMI = """\
GPU 0: NVIDIA H200 (UUID: GPU-aaaa)
GPU 1: NVIDIA H200 (UUID: GPU-bbbb)
  MIG 1g.18gb     Device  0: (UUID: MIG-1111)
  MIG 1g.18gb     Device  1: (UUID: MIG-2222)
GPU 2: NVIDIA H200 (UUID: GPU-cccc)
"""


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("0,1", ("0", "1")),
        (" 3 , 1 ", ("3", "1")),
        ("GPU-aaaa,GPU-bbbb", ("GPU-aaaa", "GPU-bbbb")),
        ("MIG-1111", ("MIG-1111",)),
        ("", ()),
        ("NoDevFiles", ()),
        ("-1", ()),
        ("0,-1,1", ("0",)),
    ],
)
def test_the_callers_list(monkeypatch: pytest.MonkeyPatch, text: str, gpus: tuple[str, ...]) -> None:
    monkeypatch.setenv(pinning.VISIBLE, text)
    assert pinning.visible_gpus() == gpus


def test_mig_devices_stand_in_for_their_gpu() -> None:
    assert pinning.parse_list(SMI) == ("GPU-aaaa", "MIG-1111", "MIG-2222", "GPU-cccc")


def test_without_a_list_the_driver_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(pinning.VISIBLE, raising=False)
    monkeypatch.setattr(pinning, "_DRIVER", tmp_path / "none")
    assert pinning.visible_gpus() == ()
    monkeypatch.setattr(pinning, "_DRIVER", tmp_path)
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(subprocess, "run", lambda *_a, **_k: SimpleNamespace(stdout=SMI))
    assert len(pinning.visible_gpus()) == 4

    def missing(*_args: object, **_options: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    assert pinning.visible_gpus() == ("0", "1")


@pytest.mark.parametrize(
    ("worker", "gpus", "gpu"),
    [
        ("gw0", ("7", "5"), "7"),
        ("gw1", ("7", "5"), "5"),
        ("gw2", ("7", "5"), "7"),
        ("gw0", (), None),
        ("master", ("7",), None),
    ],
)
def test_the_workers_share_in_turn(worker: str, gpus: tuple[str, ...], gpu: str | None) -> None:
    assert pinning.gpu_of(worker, gpus) == gpu


@pytest.mark.parametrize(
    ("profile", "worker", "seen"), [("gate", "gw1", "GPU-b"), (None, "gw1", "GPU-a,GPU-b"), ("gate", "", "GPU-a,GPU-b")]
)
def test_only_a_worker_of_a_run_that_asks_is_pinned(
    monkeypatch: pytest.MonkeyPatch, profile: str | None, worker: str, seen: str
) -> None:
    monkeypatch.setenv(pinning.VISIBLE, "GPU-a,GPU-b")
    monkeypatch.setenv(pinning.WORKER, worker)
    config = SimpleNamespace(known_args_namespace=SimpleNamespace(attnconf_profile=profile, file_or_dir=[]))
    pinning.pytest_load_initial_conftests(config)
    assert os.environ[pinning.VISIBLE] == seen


@pytest.mark.parametrize(
    ("profile", "listed", "workers"), [("gate", "0,1,2", 3), ("gate", "", None), (None, "0,1,2", None)]
)
def test_auto_means_one_worker_a_gpu(
    monkeypatch: pytest.MonkeyPatch, profile: str | None, listed: str, workers: int | None
) -> None:
    monkeypatch.setenv(pinning.VISIBLE, listed)
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    config = SimpleNamespace(option=SimpleNamespace(attnconf_profile=profile), args=[])
    assert pinning.pytest_xdist_auto_num_workers(config) == workers
    monkeypatch.setenv("PYTEST_XDIST_AUTO_NUM_WORKERS", "2")
    assert pinning.pytest_xdist_auto_num_workers(config) is None


def test_the_header_says_who_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(pinning.VISIBLE, "GPU-a,GPU-b")
    assert pinning.pinning_line(0) is None
    assert pinning.pinning_line(2) == "one GPU a worker: GPU-a, GPU-b"
    assert pinning.pinning_line(3) == "3 workers share 2 GPUs, in turn: GPU-a, GPU-b"
    monkeypatch.setenv(pinning.VISIBLE, "")
    assert pinning.pinning_line(3) is None
