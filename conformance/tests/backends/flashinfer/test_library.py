"""FlashInfer itself: what cannot be imported, or is gone, is named with its remedy."""

from __future__ import annotations

import importlib
import inspect
import os
import sys

import pytest

from attnconf.backends.flashinfer import library, places
from attnconf.errors import BackendUnavailableError
from attnconf.platforms import simulate


def test_of_a_library_that_fails_while_it_is_imported_only_complete_modules_serve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_module: str) -> None:
        message = "Torch not compiled with CUDA enabled"
        raise AssertionError(message)

    monkeypatch.setattr(importlib, "import_module", broken)
    monkeypatch.setitem(sys.modules, "flashinfer.decode", inspect)
    assert library.load("flashinfer.decode", "signature") is inspect.signature
    monkeypatch.delitem(sys.modules, "flashinfer.decode")
    with pytest.raises(BackendUnavailableError, match="AssertionError: Torch not compiled with CUDA enabled"):
        library.load("flashinfer.decode", "trtllm_batch_decode_with_kv_cache")


def test_a_library_that_is_not_there_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(module: str) -> None:
        raise ModuleNotFoundError(module)

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(BackendUnavailableError, match=r"ModuleNotFoundError: flashinfer\.prefill.*; remedy: pip"):
        library.load("flashinfer.prefill", "BatchPrefillWithPagedKVCacheWrapper")


def test_a_function_that_is_gone_is_named() -> None:
    with pytest.raises(BackendUnavailableError, match=r"has no flashinfer\.decode\.gone; remedy: pip install"):
        library.load("flashinfer.decode", "gone")


@pytest.mark.parametrize(("set_before", "level"), [(None, "warning"), ("debug", "debug")])
def test_a_line_for_each_module_is_not_printed_unless_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, set_before: str | None, level: str
) -> None:
    monkeypatch.delenv(places.LOGGING, raising=False)
    if set_before is not None:
        monkeypatch.setenv(places.LOGGING, set_before)
    monkeypatch.setattr(library, "imported", lambda _: None)
    places.environment(simulate("9.0"))
    assert os.environ[places.LOGGING] == level
