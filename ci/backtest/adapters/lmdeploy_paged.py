"""lmdeploy's Triton kernel of decodes, ``paged_attention_fwd``, over pages with any strides.

``window_size`` is ``window_left``: the kernel keeps keys from ``history_len - window_size`` on. Its prefills are not
asked: from 0.6.3 on they use Triton's block pointers, which the interpreter of today's Triton has no more.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass
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


_GROUPED = "_fwd_grouped_split_kernel"
_NARROW = 2
_STREAM = "get_cuda_stream"
"""A name of Triton 2 in the modules of releases before 0.5.0."""

_OF_TRITON_2 = frozenset({"device", "device_type", "stream"})


def _unchanged(*args: Any, **_kwargs: Any) -> Any:  # noqa: ANN401 - a decorator, with arguments or without
    return args[0] if args and callable(args[0]) else _unchanged


_STAND_INS: dict[str, dict[str, Any]] = {
    "lmdeploy.utils": {"get_logger": lambda _: SimpleNamespace(warning=lambda *_: None)},
    **{f"{place}.triton_utils": {"get_kernel_meta": lambda _: {}, "wrap_jit_func": _unchanged} for place in _PLACES},
}


def make(folder: Path, name: str) -> KernelBackend:
    """Return a backend around the kernel of the release that is unpacked in ``folder``."""
    decode = _load(folder)
    flat = _GROUPED in decode.__globals__ and "stride_kp" not in _parameters(decode.__globals__[_GROUPED])

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
        if flat and shape.group_size <= _NARROW:
            yield f"groups up to {_NARROW} have a kernel of their own, which sums products in the dtype of the queries"

    def answer(batch: Batch, layer: int, out: torch.Tensor) -> str:
        call(decode, _known(batch, layer, out, flat=flat))
        return "paged_attention_fwd"

    return KernelBackend(name, PROMISES, answer, reasons, rounded_p)


def _load(folder: Path) -> Callable[..., Any]:
    """Load the kernel without its tuning, which measures on a GPU.

    Releases before 0.5.0 name Triton's stream and device in each launch, as Triton 2 wants it: they are left out.
    """
    tuning = mock.patch.object(triton, "autotune", return_value=_unchanged)
    stream = mock.patch.object(triton.runtime.jit, _STREAM, create=True, return_value=0)
    with tuning, stream:
        found = load(folder, [f"{place}.pagedattention" for place in _PLACES], stand_ins=_STAND_INS)
    for name in _OURS.keys() & vars(found).keys():
        setattr(found, name, _OURS[name])
    if _STREAM in vars(found):
        for name in [name for name in vars(found) if name.endswith("_kernel")]:
            setattr(found, name, _Launched(vars(found)[name]))
    return vars(found)["paged_attention_fwd"]  # type: ignore[no-any-return]


def _parameters(kernel: Any) -> tuple[str, ...]:  # noqa: ANN401 - an interpreted function of Triton, or one launched
    inner = kernel.kernel if isinstance(kernel, _Launched) else kernel
    return tuple(inspect.signature(inner.fn).parameters)


@dataclass(frozen=True)
class _Launched:
    """A kernel that is launched without what Triton 2 wants to be told."""

    kernel: Any

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., Any]:
        launch = self.kernel[grid]
        return lambda *args, **named: launch(*args, **{name: named[name] for name in named.keys() - _OF_TRITON_2})


def _known(batch: Batch, layer: int, out: torch.Tensor, *, flat: bool) -> dict[str, Any]:
    """Return the arguments; ``flat`` copies the caches, since a release takes a page for tokens in a row."""
    inputs = batch.layers[layer]
    geometry = inputs.geometry
    cache = batch.caches[inputs.cache]
    k, v = (view if batch.kv_layout == "NHD" else view.transpose(1, 2) for view in (cache.k, cache.v))
    k, v = (view.contiguous() for view in (k, v)) if flat else (k, v)
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
