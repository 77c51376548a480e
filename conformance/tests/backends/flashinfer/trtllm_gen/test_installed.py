"""The list of this machine is found in FlashInfer's order, and trusted by two checksums."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.version import Version

from attnconf.backends.flashinfer.trtllm_gen import installed, lists
from attnconf.backends.flashinfer.trtllm_gen.releases import release_of
from attnconf.errors import InvalidInputError
from conformance.tests.backends.flashinfer.trtllm_gen.conftest import header

if TYPE_CHECKING:
    from conformance.tests.backends.flashinfer.trtllm_gen.conftest import OnDisk


def test_looks_where_the_variable_says_then_in_the_package_then_in_the_cache(on_disk: OnDisk) -> None:
    assert list(installed.folders({"FLASHINFER_CUBIN_DIR": "/a", "FLASHINFER_WORKSPACE_BASE": "/b"})) == [
        Path("/a"),
        Path("/b/.cache/flashinfer/cubins"),
    ]
    found = installed.find_list(on_disk.kernels, {"FLASHINFER_CUBIN_DIR": str(on_disk.root)})
    assert found == on_disk.folder
    assert installed.find_list(on_disk.kernels, {"FLASHINFER_CUBIN_DIR": str(on_disk.root / "none")}) is None


def test_a_list_with_both_checksums_is_read(on_disk: OnDisk) -> None:
    assert installed.verified(on_disk.folder, on_disk.kernels) == header()


def test_a_tampered_list_is_refused(on_disk: OnDisk) -> None:
    path = on_disk.folder / lists.HEADER
    path.write_text(path.read_text().replace("178280", "178281"))
    with pytest.raises(InvalidInputError, match=r"flashInferMetaInfo\.h: SHA-256 is [0-9a-f]{64}; allowed: "):
        installed.verified(on_disk.folder, on_disk.kernels)


def test_checksums_that_flashinfer_does_not_pin_are_refused(on_disk: OnDisk) -> None:
    other = replace(on_disk.kernels, checksums=lists.OLD.checksums)
    with pytest.raises(
        InvalidInputError, match=r"checksums\.txt: SHA-256 is .*which flashinfer pins for list 158f6fa1"
    ):
        installed.verified(on_disk.folder, other)


def test_another_selector_than_the_releases_own_is_refused(tmp_path: Path) -> None:
    release = release_of(Version("0.6.13"))
    assert release is not None
    path = tmp_path / "fmhaKernels.cuh"
    path.write_text("// changed\n")
    with pytest.raises(InvalidInputError, match=r"which flashinfer-python 0\.6\.13 has"):
        installed.refuse_other_selector(release, path)


def test_the_installed_selector_is_that_of_its_release() -> None:
    from attnconf.platforms import installed_packages

    path, version = installed.selector_path(), installed_packages().get("flashinfer-python")
    release = None if version is None else release_of(Version(version))
    if path is not None and release is not None:
        installed.refuse_other_selector(release, path)
