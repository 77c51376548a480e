"""A pytest plugin that adds ``sglang:triton[window+1]``: sglang's class with its one known finding repaired.

``TritonAttnBackend`` decodes over one key fewer than the window has (fixtures/findings/sglang-triton-decode-window.md).
Every windowed decode fails by it, and what else might be wrong there would not be seen. With the window of a decode one
key wider, and nothing else changed, the other clauses are judged. Rows of images are declined: three findings about
them stand beside that one, and which of them a case meets depends on blocks and chunks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from attnconf.backends.engines.sglang.backend import SglangTriton, make_triton
from attnconf.backends.protocol import Unsupported

if TYPE_CHECKING:
    from attnconf.backends.engines.sglang.engine import MakeBackend
    from attnconf.backends.engines.sglang.library import Library
    from attnconf.backends.registry import Registry
    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform

NAME = "sglang:triton[window+1]"


@dataclass(frozen=True)
class Widened(SglangTriton):
    """``sglang:triton`` whose decode sees the whole window."""

    name = NAME

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or why this shape cannot run there."""
        if shape.spans:
            return Unsupported("images are cut at blocks and chunks (fixtures/findings/sglang-triton-image-block.md)")
        return super().supports(shape, platform)

    def engine_class(self, sglang: Library) -> MakeBackend:
        """Return sglang's class, whose decode metadata is built for a window that counts the query's own key, too."""
        original: Any = sglang.TritonAttnBackend

        class WholeWindow(original):  # type: ignore[misc] - sglang's class is not typed here
            def init_forward_metadata(self, forward_batch: Any) -> None:  # noqa: ANN401 - sglang's ForwardBatch
                narrow = self.sliding_window_size
                if narrow is not None and forward_batch.forward_mode.is_decode():
                    self.sliding_window_size = narrow + 1
                try:
                    super().init_forward_metadata(forward_batch)
                finally:
                    self.sliding_window_size = narrow

        return WholeWindow


def make(platform: Platform) -> Widened:
    """Return the backend. Raises ``BackendUnavailableError`` without sglang."""
    return Widened(make_triton(platform).platform)


@pytest.hookimpl(optionalhook=True)
def pytest_attnconf_register_backends(registry: Registry) -> None:
    """Register it beside the installed ones."""
    registry.register(NAME, make)
