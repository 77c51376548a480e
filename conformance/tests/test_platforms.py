"""The machine of a run: whether what was detected of one GPU holds for all."""

from __future__ import annotations

import pytest
import torch

from attnconf.platforms import Platform, has_others

H200 = Platform(device="H200", sm=(9, 0))


@pytest.mark.parametrize(("second", "differs"), [("H200", False), ("B200", True)])
def test_gpus_of_two_kinds_are_noticed(monkeypatch: pytest.MonkeyPatch, second: str, *, differs: bool) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", ["H200", second].__getitem__)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert has_others(H200) is differs
    assert not has_others(Platform())
