"""The state that all code of a process shares: each part of it, and how it is read and written."""

from __future__ import annotations

import gc
import locale
import os
import random
import signal
import sys
import threading
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGPIPE")
    if hasattr(signal, name)
)
_HOOKS = ("excepthook", "unraisablehook", "displayhook")
_STREAMS = ("stdin", "stdout", "stderr")
_DEVICES = ("cpu", "cuda")
_FILLS = "fill_uninitialized_memory"  # a property that torch's types do not know


@dataclass(frozen=True)
class Part:
    """One part of the state. ``is_kept`` says whether a backend that changed it has its own again the next time."""

    read: Callable[[], Any]
    write: Callable[[Any], object]
    is_kept: bool = True


def _set_device(device: torch.device) -> None:
    # None where that means the same: a device that is set makes every later call of torch slower.
    torch.set_default_device(None if device == torch.device("cpu") else device)


def _determinism() -> tuple[bool, bool, bool]:
    fills: bool = getattr(torch.utils.deterministic, _FILLS)
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled(), fills


def _set_determinism(state: tuple[bool, bool, bool]) -> None:
    torch.use_deterministic_algorithms(state[0], warn_only=state[1])
    setattr(torch.utils.deterministic, _FILLS, state[2])


def _autocast() -> tuple[tuple[bool, torch.dtype], ...]:
    return tuple((torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)) for device in _DEVICES)


def _set_autocast(state: tuple[tuple[bool, torch.dtype], ...]) -> None:
    for device, (enabled, dtype) in zip(_DEVICES, state, strict=True):
        torch.set_autocast_enabled(device, enabled)
        torch.set_autocast_dtype(device, dtype)


def _kernels() -> tuple[bool, ...]:
    cuda: Any = torch.backends.cuda  # whose switches have no types
    cudnn = torch.backends.cudnn
    sdp = (cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled())
    return (*sdp, cuda.cudnn_sdp_enabled(), cudnn.enabled, cudnn.deterministic, cudnn.benchmark)


def _set_kernels(state: tuple[bool, ...]) -> None:
    cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
    cuda.enable_flash_sdp(state[0])
    cuda.enable_mem_efficient_sdp(state[1])
    cuda.enable_math_sdp(state[2])
    cuda.enable_cudnn_sdp(state[3])
    cudnn.enabled, cudnn.deterministic, cudnn.benchmark = state[4:]


def _gpu() -> int | None:
    cuda: Any = torch.cuda
    return torch.cuda.current_device() if cuda.is_initialized() else None


def _set_gpu(index: int | None) -> None:
    if index is not None:
        torch.cuda.set_device(index)


def _random() -> tuple[int, ...]:
    return tuple(torch.get_rng_state().tolist())


def _set_random(state: tuple[int, ...]) -> None:
    torch.set_rng_state(torch.tensor(state, dtype=torch.uint8, device="cpu"))


def _numpy_random() -> tuple[Any, ...]:
    """Return the state of numpy's global generator, or nothing where numpy is not loaded."""
    get_state = getattr(getattr(sys.modules.get("numpy"), "random", None), "get_state", None)
    state: tuple[Any, ...] = () if get_state is None else get_state()
    return tuple(part.tolist() if hasattr(part, "tolist") else part for part in state)


def _set_numpy_random(state: tuple[Any, ...]) -> None:
    if state:
        sys.modules["numpy"].random.set_state(state)


def _environ() -> dict[str, str]:
    return dict(os.environ)


def _set_environ(wanted: dict[str, str]) -> None:
    for name in os.environ.keys() - wanted.keys():
        del os.environ[name]
    os.environ.update(wanted)


def _filters() -> tuple[Any, tuple[Any, ...]]:
    return warnings.filters, tuple(warnings.filters)


def _set_filters(state: tuple[Any, tuple[Any, ...]]) -> None:
    warnings.filters = state[0]
    warnings.resetwarnings()  # so that what was remembered under other filters is forgotten
    state[0][:] = state[1]


def _handlers() -> tuple[Any, ...]:
    if threading.current_thread() is not threading.main_thread():  # only there can they be set
        return ()
    return tuple(map(signal.getsignal, _SIGNALS))


def _set_handlers(handlers: tuple[Any, ...]) -> None:
    for number, handler in zip(_SIGNALS, handlers, strict=False):
        if handler is not None and signal.getsignal(number) != handler:  # None: C code's, which Python cannot set
            signal.signal(number, handler)


def _has_timer() -> bool:
    return signal.getitimer(signal.ITIMER_REAL)[0] > 0


def _set_timer(wanted: bool) -> None:  # noqa: FBT001 - a value of the state
    if not wanted:  # one that was there before has run on, and is not set anew
        signal.setitimer(signal.ITIMER_REAL, 0)


def _hooks() -> tuple[Any, ...]:
    return tuple(getattr(sys, name) for name in _HOOKS)


def _set_hooks(hooks: tuple[Any, ...]) -> None:
    for name, hook in zip(_HOOKS, hooks, strict=True):
        setattr(sys, name, hook)


def _collects() -> bool:
    return gc.isenabled()


def _set_collects(wanted: bool) -> None:  # noqa: FBT001 - a value of the state
    (gc.enable if wanted else gc.disable)()


def _mask() -> int:
    mask = os.umask(0o077)  # it can only be read by setting it
    os.umask(mask)
    return mask


def _set_path(path: tuple[Any, list[str]]) -> None:
    sys.path = path[0]
    sys.path[:] = path[1]


class _Descriptor:
    """A file descriptor and a second one of the same open file, which is closed when nobody has this any more."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._held: int | None = None
        with suppress(OSError):  # closed
            self._held = os.dup(number)

    def restore(self) -> None:
        """Let the number be what it was."""
        if self._held is not None:
            os.dup2(self._held, self.number)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Descriptor) and self._file == other._file

    def __hash__(self) -> int:
        return hash(self._file)

    def __del__(self) -> None:
        if self._held is not None:
            os.close(self._held)

    @property
    def _file(self) -> tuple[int, ...]:
        if self._held is None:
            return ()
        status = os.fstat(self._held)
        return status.st_dev, status.st_ino


def _descriptors() -> tuple[_Descriptor, ...]:
    return tuple(map(_Descriptor, range(len(_STREAMS))))


def _set_descriptors(descriptors: tuple[_Descriptor, ...]) -> None:
    for descriptor in descriptors:
        descriptor.restore()


def _streams() -> tuple[Any, ...]:
    return tuple(getattr(sys, name) for name in _STREAMS)


def _set_streams(streams: tuple[Any, ...]) -> None:
    for name, stream in zip(_STREAMS, streams, strict=True):
        setattr(sys, name, stream)


OF_TORCH = (
    Part(torch.get_default_dtype, torch.set_default_dtype),
    Part(torch.get_default_device, _set_device),
    Part(torch.is_grad_enabled, torch.set_grad_enabled),
    Part(torch.get_num_threads, torch.set_num_threads),
    Part(_determinism, _set_determinism),
    Part(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    Part(_autocast, _set_autocast),
    Part(_kernels, _set_kernels),
    Part(_gpu, _set_gpu),
)
"""What the judge's own computing depends on, in the order in which it is put back."""

OF_PROCESS = (
    Part(_random, _set_random),
    Part(random.getstate, random.setstate),
    Part(_numpy_random, _set_numpy_random),
    Part(os.getcwd, os.chdir),
    Part(_environ, _set_environ),
    Part(_filters, _set_filters),
    Part(sys.getrecursionlimit, sys.setrecursionlimit),
    Part(lambda: (sys.path, list(sys.path)), _set_path),
    Part(lambda: locale.setlocale(locale.LC_ALL), lambda name: locale.setlocale(locale.LC_ALL, name)),
    Part(_mask, os.umask),
    Part(_collects, _set_collects),
    Part(_hooks, _set_hooks, is_kept=False),
    Part(_handlers, _set_handlers, is_kept=False),
    Part(_has_timer, _set_timer, is_kept=False),
    Part(_streams, _set_streams, is_kept=False),
    Part(_descriptors, _set_descriptors, is_kept=False),
)
"""What the next backend, the tests after it and pytest depend on."""
