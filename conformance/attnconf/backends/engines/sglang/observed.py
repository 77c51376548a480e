"""FlashInfer for ``TRTLLMHAAttnBackend`` on a GPU: its own functions, which record the kernels behind them."""

from __future__ import annotations

from functools import wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from attnconf.backends.flashinfer import library
from attnconf.backends.flashinfer.trtllm_mha.dispatch import FUNCTIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from attnconf.backends.flashinfer.trtllm_mha.dispatch import Family

_FAMILIES: tuple[Family, ...] = ("xqa", "fmha_v2")
"""The kernels of SM 9.0: the decode function picks XQA, and sglang calls FMHA v2's function for prefill."""


class Observed:
    """The module ``flashinfer`` for sglang's TensorRT-LLM code; ``called`` names the kernels that were called."""

    def __init__(self) -> None:
        self.called: list[str] = []
        made: dict[str, dict[str, Any]] = {"decode": {}, "prefill": {}}
        for family in _FAMILIES:
            module, name = FUNCTIONS[family]
            made[module.rpartition(".")[2]][name] = self._recording(family, library.load(module, name))
        self.decode = SimpleNamespace(**made["decode"])
        self.prefill = SimpleNamespace(**made["prefill"])

    def install(self, backend: ModuleType) -> None:
        """Make this the FlashInfer of sglang's module ``backend``."""
        vars(backend)["flashinfer"] = self

    def _recording(self, family: Family, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - what sglang passes, and what FlashInfer returns
            if family not in self.called:
                self.called.append(family)
            return function(*args, **kwargs)

        return call
