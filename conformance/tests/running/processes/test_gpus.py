"""The GPUs that a process may use, and how processes take them in turn."""

from __future__ import annotations

import os
import subprocess
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from attnconf.running.processes import gpus

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
    ("text", "listed"),
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
def test_the_callers_list(monkeypatch: pytest.MonkeyPatch, text: str, listed: tuple[str, ...]) -> None:
    monkeypatch.setenv(gpus.VISIBLE, text)
    assert gpus.visible_gpus() == listed


def test_mig_devices_stand_in_for_their_gpu() -> None:
    assert gpus.parse_list(SMI) == ("GPU-aaaa", "MIG-1111", "MIG-2222", "GPU-cccc")


def test_without_a_list_the_driver_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    monkeypatch.setattr(gpus, "_DRIVER", tmp_path / "none")
    assert gpus.visible_gpus() == ()
    monkeypatch.setattr(gpus, "_DRIVER", tmp_path)
    for name in ("0000:01:00.0", "0000:02:00.0"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(subprocess, "run", lambda *_a, **_k: SimpleNamespace(stdout=SMI))
    assert len(gpus.visible_gpus()) == 4

    def missing(*_args: object, **_options: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    assert gpus.visible_gpus() == ("0", "1")


@pytest.mark.parametrize(("index", "shared", "seen"), [(0, "7,5", "7"), (1, "7,5", "5"), (2, "7,5", "7"), (0, "", "")])
def test_processes_take_them_in_turn(monkeypatch: pytest.MonkeyPatch, index: int, shared: str, seen: str) -> None:
    monkeypatch.setenv(gpus.VISIBLE, shared)
    gpus.use_only(index, gpus.visible_gpus())
    assert os.environ[gpus.VISIBLE] == seen
