"""lmdeploy's Triton kernel of decodes, ``paged_attention_fwd``, over pages with any strides.

``window_size`` is ``window_left``: the kernel keeps keys from ``history_len - window_size`` on. Its prefills are not
asked: from 0.6.3 on they use Triton's block pointers, which the interpreter of today's Triton has no more.
"""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
import triton
import triton.language as tl

from attnconf.backends.protocol import FINITE, Promises
from attnconf.backends.tables import block_tables_for
from ci.backtest.adapters.calling import call, takes
from ci.backtest.adapters.kernel import KernelBackend, interpreted, rounded_p
from ci.backtest.loading import load

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape

_PLACES = ("lmdeploy.pytorch.kernels.cuda", "lmdeploy.pytorch.kernels")
_MULTIPLE = 16
PROMISES = Promises(
    dead_v=FINITE,
    reclaimed_v=FINITE,
    empty_kv=False,
    empty_q=False,
    batch_invariant=False,
    hint_invariant=False,
    least_window=1,
)
"""Values behind a sequence's end are read and weighed with 0: lmdeploy's caches hold finite ones alone."""


@triton.jit  # type: ignore[untyped-decorator]
def _tanh(x: Any) -> Any:  # noqa: ANN401 - a block of Triton
    """Return tanh(x): the interpreter calls no function of CUDA's libdevice."""
    return 1.0 - 2.0 / (tl.exp(2.0 * x) + 1.0)


@triton.jit  # type: ignore[untyped-decorator]
def _fast_divide(x: Any, y: Any) -> Any:  # noqa: ANN401 - blocks of Triton
    """Return x / y, as libdevice's fast division does within its error."""
    return x / y


@triton.jit  # type: ignore[untyped-decorator]
def _exp2(x: Any) -> Any:  # noqa: ANN401 - a block of Triton
    """Return 2 ** x: a release's own name for Triton's function is not interpreted."""
    return tl.exp2(x)


@triton.jit  # type: ignore[untyped-decorator]
def _exp(x: Any) -> Any:  # noqa: ANN401 - a block of Triton
    """Return e ** x, as libdevice's fast exponential does within its error."""
    return tl.exp(x)


_OURS = {"tanh": _tanh, "fast_dividef": _fast_divide, "fast_expf": _exp, "tl_exp2": _exp2, "tl_log2": math.log2}
"""Names of the kernel's module, and what stands for them: the only logarithm is that of a constant."""


def _unchanged(*args: Any, **_kwargs: Any) -> Any:  # noqa: ANN401 - a decorator, with arguments or without
    return args[0] if args and callable(args[0]) else _unchanged


_STAND_INS: dict[str, dict[str, Any]] = {
    "lmdeploy.utils": {"get_logger": lambda _: SimpleNamespace(warning=lambda *_: None)},
    **{f"{place}.triton_utils": {"get_kernel_meta": lambda _: {}, "wrap_jit_func": _unchanged} for place in _PLACES},
}


def make(folder: Path, name: str) -> KernelBackend:
    """Return a backend around the kernel of the release that is unpacked in ``folder``."""
    decode = _load(folder)

    def reasons(shape: KernelShape) -> Iterator[str]:
        yield from interpreted(shape)
        if shape.page_size % _MULTIPLE or shape.page_size & (shape.page_size - 1):
            yield f"lmdeploy's pages are powers of two from {_MULTIPLE} on, not {shape.page_size}"
        if shape.windowed:
            yield "the release joins the masks of windows by `and`, which the interpreter reads as Python's"
        if shape.sinks:
            yield "the adapter passes no sinks"
        if shape.soft_cap and not takes(decode, "logit_softcapping"):
            yield "this release has no soft cap"
        if shape.mode != "decode":
            yield "a kernel of decodes"

    def answer(batch: Batch, layer: int, out: torch.Tensor) -> str:
        call(decode, _known(batch, layer, out))
        return "paged_attention_fwd"

    return KernelBackend(name, PROMISES, answer, reasons, rounded_p)


def _load(folder: Path) -> Callable[..., Any]:
    """Load the kernel without its tuning, which measures on a GPU."""
    with mock.patch.object(triton, "autotune", return_value=_unchanged):
        found = load(folder, [f"{place}.pagedattention" for place in _PLACES], stand_ins=_STAND_INS)
    for name in _OURS.keys() & vars(found).keys():
        setattr(found, name, _OURS[name])
    return vars(found)["paged_attention_fwd"]  # type: ignore[no-any-return]


def _known(batch: Batch, layer: int, out: torch.Tensor) -> dict[str, Any]:
    inputs = batch.layers[layer]
    geometry = inputs.geometry
    cache = batch.caches[inputs.cache]
    k, v = (view if batch.kv_layout == "NHD" else view.transpose(1, 2) for view in (cache.k, cache.v))
    return {
        "q": inputs.q,
        "k": k,
        "v": v,
        "o": out,
        "block_offsets": block_tables_for(batch, layer).contiguous(),
        "q_start_loc": batch.qo_indptr[:-1].contiguous(),
        "q_seqlens": torch.tensor(batch.q_lens, dtype=torch.int32),
        "kv_seqlens": batch.seq_lens,
        "max_seqlen": batch.max_q_len,
        "window_size": geometry.window_left,
        "sm_scale": geometry.sm_scale,
        "logit_softcapping": geometry.logits_soft_cap or -1.0,
    }
