"""Backends that take their process down; importable by name, so that a process of their own can make them."""

from __future__ import annotations

import ctypes
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.backends.protocol import Unsupported
from attnconf.backends.reference import ReferenceBackend

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Prepared
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform
    from attnconf.precision import NumericsProfile

TRIGGER = 13
"""A request of so many keys is the one that wrecks."""

SAID = "ATTNCONF_TEST_SAID"
ONCE = "ATTNCONF_TEST_ONCE"
CHILD = "ATTNCONF_TEST_CHILD"

ABORT = """a warning
terminate called after throwing an instance of 'c10::AcceleratorError'
  what():  CUDA error: an illegal memory access was encountered
Search for `cudaErrorIllegalAddress' in the documentation.
CUDA kernel errors might be asynchronously reported at some other API call.
frame #0: c10::Error::Error(c10::SourceLocation) + 0x9d (0x7f in libc10.so)
"""
"""What PyTorch writes when a CUDA error meets a destructor."""


class Wrecking(ReferenceBackend):
    """Right, but for the way it takes one length."""

    def __init__(self, how: str, name: str = "") -> None:
        self.name, self.how = name or how, how

    def prepare(self, batch: Batch) -> Prepared:
        if TRIGGER in batch.kv_lens:
            wreck(self.how)
        return super().prepare(batch)


def wreck(how: str) -> None:
    if how == "segfault":
        ctypes.string_at(0)
    elif how == "abort":
        os.write(2, ABORT.encode())
        os.abort()
    elif how == "exit":
        os._exit(7)
    elif how == "hang":
        time.sleep(3600)
    elif how == "shout":
        os.write(1, b"x\n" * 10_000_000)
        os.write(2, b"Error: the end\n")
        os._exit(7)
    elif how == "bear":
        child = os.fork()
        if child == 0:
            time.sleep(3600)
        Path(os.environ[CHILD]).write_text(str(child))
        os._exit(7)
    else:
        raise RuntimeError(_said(how))


def _said(how: str) -> str:
    if how == "recite":
        return f"{os.environ.get(SAID)}, and {'a' if 'HOME' in os.environ else 'no'} HOME, child of {os.getppid()}"
    return "an ordinary exception"


class Undeclared(Wrecking):
    """The same, and it declares every shape unsupported."""

    def supports(self, _shape: KernelShape, _platform: Platform) -> Unsupported:
        return Unsupported("it has no kernel")


class Changing(ReferenceBackend):
    """Right, and does something to its process at every call."""

    name = "changing"

    def __init__(self, change: Callable[[], object]) -> None:
        self._change = change

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        self._change()
        return super().supports(shape, platform)

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        self._change()
        return super().numerics(shape)

    def prepare(self, batch: Batch) -> Prepared:
        prepared = super().prepare(batch)
        self._change()
        return prepared


class Importing(ReferenceBackend):
    """Says how often it was let import its library, which fails."""

    name, imported = "importing", 0

    def import_library(self) -> None:
        self.imported += 1
        message = "no such library"
        raise ImportError(message)

    def supports(self, _shape: KernelShape, _platform: Platform) -> Unsupported:
        return Unsupported(f"imported {self.imported}")


def importing(platform: Platform) -> Importing:
    del platform
    return Importing()


def undeclared(platform: Platform) -> Undeclared:
    del platform
    return Undeclared("segfault", "undeclared")


def segfault(platform: Platform) -> Wrecking:
    del platform
    return Wrecking("segfault")


def abort(platform: Platform) -> Wrecking:
    del platform
    return Wrecking("abort")


def leave(platform: Platform) -> Wrecking:
    del platform
    return Wrecking("exit", "leave")


def hang(platform: Platform) -> Wrecking:
    del platform
    return Wrecking("hang")


def shout(platform: Platform) -> Wrecking:
    del platform
    return Wrecking("shout", "shout")


def bear(platform: Platform) -> Wrecking:
    del platform
    return Wrecking("bear", "bear")


def complain(platform: Platform) -> Wrecking:
    del platform
    return Wrecking("raise", "complain")


def recite(platform: Platform) -> Wrecking:
    del platform
    return Wrecking("recite")


def once(platform: Platform) -> Wrecking:
    """Return a backend that leaves a lock behind, as compilers do that a crash interrupts."""
    del platform
    lock = Path(os.environ[ONCE])
    if lock.exists():
        message = "a lock"
        raise RuntimeError(message)
    lock.touch()
    return Wrecking("segfault", "once")


def never(platform: Platform) -> Wrecking:
    message = f"not on {platform.device}"
    raise RuntimeError(message)
