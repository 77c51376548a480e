"""FlashInfer for ``TRTLLMHAAttnBackend`` without a GPU: its documented calls, bound and executed.

Each call of sglang is bound to the signature of the installed function, and executed by the documented contract of the
backend ``trtllm_mha``. FlashInfer's wrappers, which the parent class makes and this class never calls, are empty
objects. FlashInfer itself computes one size, for the multiprocessors of a B200.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.flashinfer import library
from attnconf.backends.flashinfer.trtllm_mha import contract
from attnconf.backends.flashinfer.trtllm_mha.signature import bind

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

_MULTIPROCESSORS = 148
"""Of a B200."""

_DECODE = ("flashinfer.decode", "trtllm_batch_decode_with_kv_cache")
_CONTEXT = ("flashinfer.prefill", "trtllm_batch_context_with_kv_cache")
_WRAPPERS = (
    "BatchDecodeWithPagedKVCacheWrapper",
    "BatchPrefillWithPagedKVCacheWrapper",
    "BatchPrefillWithRaggedKVCacheWrapper",
)


class Documented:
    """The module ``flashinfer`` for sglang's TensorRT-LLM code; ``called`` names the functions that were called."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.decode = SimpleNamespace(**{_DECODE[1]: self._executing(*_DECODE)})
        self.prefill = SimpleNamespace(**{_CONTEXT[1]: self._executing(*_CONTEXT)})
        counter_bytes = "get_trtllm_gen_multi_ctas_kv_counter_bytes"
        self.utils = SimpleNamespace(
            get_device_sm_count=lambda _: _MULTIPROCESSORS,
            **{counter_bytes: library.load("flashinfer.utils", counter_bytes)},
        )

    def install(self, backend: ModuleType, counters: ModuleType, parent: ModuleType) -> None:
        """Make this the FlashInfer of sglang's three modules, which do not import it without a GPU."""
        vars(backend)["flashinfer"] = self
        vars(counters)["flashinfer"] = self
        for name in _WRAPPERS:
            vars(parent)[name] = _Unused

    def _executing(self, module: str, name: str) -> Callable[..., torch.Tensor]:
        function = library.load(module, name)

        def call(*args: Any, **kwargs: Any) -> torch.Tensor:  # noqa: ANN401 - what sglang passes
            if args:
                raise TypeError(f"{name} got positional arguments")
            bound = bind(function, name, kwargs, library.version())
            query = bound["query"]
            if bound["out"] is None:
                bound["out"] = torch.full(query.shape, torch.nan, dtype=bound["out_dtype"] or query.dtype)
            contract.execute(name, bound)
            if name not in self.called:
                self.called.append(name)
            out: torch.Tensor = bound["out"]
            return out

        return call


class _Unused:
    def __init__(self, *_: object, **__: object) -> None:
        pass
