"""No test of a backend sees a kernel cache, FlashInfer's or a carried one, that this machine happens to have."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from attnconf.backends.flashinfer import places as rooms
from attnconf.backends.flashinfer.cache import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture(autouse=True)
def _no_carried_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """FlashInfer's folders, in a folder of the test's own."""
    found = SimpleNamespace(
        FLASHINFER_WORKSPACE_DIR=tmp_path / "workspace",
        FLASHINFER_JIT_DIR=tmp_path / "workspace" / "cached_ops",
        FLASHINFER_AOT_DIR=tmp_path / "package" / "aot",
        get_cuda_version=lambda: "13.0",
    )
    monkeypatch.setattr("attnconf.backends.flashinfer.library.imported", lambda _: found)
    monkeypatch.setattr(rooms, "_placed", set())
    monkeypatch.setenv(rooms.ARCHITECTURES, "9.0")
    return found


@pytest.fixture
def put() -> Callable[..., Path]:
    """Lay a finished module into a folder."""

    def put(folder: Path, name: str, content: bytes = b"\x7fELF") -> Path:
        path = folder / name / f"{name}.so"
        path.parent.mkdir(parents=True)
        path.write_bytes(content)
        return path

    return put
