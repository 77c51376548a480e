"""The lists that attnconf ships are whole, small, and what their source was."""

from __future__ import annotations

import json
import lzma
from typing import TYPE_CHECKING

import pytest

from attnconf.backends.flashinfer.trtllm_gen import derived, lists
from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

    from attnconf.backends.flashinfer.trtllm_gen.lists import KernelList

ROWS = {"0.6.10.post1": 4248, "0.6.11": 4314, "0.6.13": 5580}
"""Kernels of paged grouped-query attention, as counted in the lists themselves."""


@pytest.mark.parametrize("kernels", lists.SHIPPED, ids=lambda kernels: kernels.short)
def test_a_shipped_list_has_every_kernel_and_says_where_it_is_from(kernels: KernelList) -> None:
    rows = derived.shipped_rows(kernels)
    assert len(rows) == len(set(rows)) == ROWS[kernels.wheel]
    content = derived.path_of(kernels).read_bytes()
    assert len(content) < 100_000
    data = json.loads(lzma.decompress(content))
    assert data["source"]["sha256"] == kernels.header
    assert data["source"]["checksums_sha256"] == kernels.checksums
    assert "Apache-2.0" in data["notice"]
    again = derived.derive(reversed(rows), kernels)
    assert lzma.decompress(again) == lzma.decompress(content)


def test_a_changed_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.json.xz"
    text = lzma.decompress(derived.path_of(lists.DYNAMIC).read_bytes())
    path.write_bytes(lzma.compress(text.replace(b"Pers", b"pers", 1)))
    with pytest.raises(InvalidInputError, match=r"SHA-256 of its text is .*which attnconf ships for list 158f6fa1"):
        derived.read_derived(path, lists.DYNAMIC)


def test_that_of_another_version_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="which attnconf ships for list 158f6fa1"):
        derived.read_derived(derived.path_of(lists.OLD), lists.DYNAMIC)


@pytest.mark.parametrize("length", [3, 5000])
def test_a_cut_one_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "list.json.xz"
    path.write_bytes(derived.path_of(lists.DYNAMIC).read_bytes()[:length])
    with pytest.raises(InvalidInputError, match=r"list\.json\.xz: (cut off|cannot be read)"):
        derived.read_derived(path, lists.DYNAMIC)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "list.json.xz"
    path.write_bytes(b"not xz at all")
    with pytest.raises(InvalidInputError, match="cannot be read"):
        derived.read_derived(path, lists.DYNAMIC)
