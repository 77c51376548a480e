"""The machine of a run: whether what was detected of one GPU holds for all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from attnconf.platforms import Platform, detect, has_others, installed_packages

H200 = Platform(device="H200", sm=(9, 0))


@pytest.mark.parametrize(("second", "differs"), [("H200", False), ("B200", True)])
def test_gpus_of_two_kinds_are_noticed(monkeypatch: pytest.MonkeyPatch, second: str, *, differs: bool) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", ["H200", second].__getitem__)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert has_others(H200) is differs
    assert not has_others(Platform())


def test_a_machine_without_a_driver_is_described_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnconf.platforms._NVIDIA_DRIVER", "libno_such_driver.so")
    monkeypatch.setattr("attnconf.platforms._AMD_DRIVER", Path("/no/such"))
    monkeypatch.setitem(sys.modules, "torch", None)
    assert detect() == Platform(packages=installed_packages())


def test_a_driver_is_asked_for_its_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnconf.platforms._NVIDIA_DRIVER", "libc.so.6")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H200")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert (detect().device, detect().sm) == ("H200", (9, 0))
