"""What the doctor says of this machine's list and selector, and the commands that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from packaging.version import Version

from attnconf.backends.flashinfer.trtllm_gen import condition, lists
from attnconf.backends.flashinfer.trtllm_gen.condition import cubin_remedy, faults

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(condition, "selector_path", lambda: None)


def test_remedies_name_packages_that_the_index_has() -> None:
    assert cubin_remedy(Version("0.6.13")) == "pip install flashinfer-cubin==0.6.13"
    assert cubin_remedy(Version("0.7.4")) == "pip uninstall -y flashinfer-cubin"


def test_a_known_release_has_no_fault(tmp_path: Path) -> None:
    assert list(faults(Version("0.6.17"), {"FLASHINFER_WORKSPACE_BASE": str(tmp_path)})) == []


@pytest.mark.parametrize("release", ["0.7.4", "99.0"])
def test_an_unknown_release_is_said(release: str, tmp_path: Path) -> None:
    ((why, remedy),) = faults(Version(release), {"FLASHINFER_WORKSPACE_BASE": str(tmp_path)})
    assert why == f"which SM100 kernels flashinfer-python {release} has is unknown to attnconf"
    assert remedy == "attnconf kernels --model gemma4-12b --flashinfer 0.6.17"


def test_a_tampered_list_and_a_changed_selector_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = tmp_path / lists.DYNAMIC.folder / lists.HEADER
    header.parent.mkdir(parents=True)
    header.write_text("tampered")
    (tmp_path / lists.DYNAMIC.folder / lists.CHECKSUMS).write_text("tampered")
    selector = tmp_path / "fmhaKernels.cuh"
    selector.write_text("changed")
    monkeypatch.setattr(condition, "selector_path", lambda: selector)
    found = list(faults(Version("0.6.13"), {"FLASHINFER_CUBIN_DIR": str(tmp_path)}))
    assert ["fmhaKernels.cuh: SHA-256 is" in found[0][0], "checksums.txt: SHA-256 is" in found[1][0]] == [True, True]
    assert found[0][1] == "pip install --force-reinstall --no-deps flashinfer-python==0.6.13"
    assert found[1][1].endswith("&& pip download --no-deps flashinfer-cubin==0.6.13")
