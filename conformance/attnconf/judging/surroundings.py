"""Surroundings: what code in one process shares, and what a backend that is asked there must not change for others.

A backend that sets torch's default dtype would break the judge's computing, and the next backend's verdict. So each is
asked inside its ``Surroundings``: what it changed is undone when it returns, and is there again when it is asked the
next time, for it may count on it. It is not blamed. The rest only a process of its own holds off: functions of torch
that are replaced, threads that change something later, ``os._exit``.
"""

from __future__ import annotations

import locale
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from attnconf.errors import one_line
from attnconf.judging.process_state import OF_PROCESS, OF_TORCH, Part

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_GONE = (RuntimeError, OSError, ValueError, AttributeError, TypeError, locale.Error)
"""What reading or writing raises where a part is no more: a folder that was removed, a mix of torch's old and new."""


class Surroundings:
    """What one backend changed of the shared state, and has whenever it is asked."""

    def __init__(self) -> None:
        self._own: dict[Part, Any] = {}

    @contextmanager
    def of_torch(self) -> Iterator[None]:
        """Around each call of the backend: the judge computes between two of them.

        Raises ``RuntimeError`` for what a backend raises and no ``except Exception`` would catch.
        """
        with self._around(OF_TORCH):
            try:
                yield
            except (Exception, SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # such as pytest.skip: nobody but the judge says that nothing was judged
                message = f"it raised {one_line(error)}"
                raise RuntimeError(message) from error

    @contextmanager
    def of_process(self) -> Iterator[None]:
        """Around all that is asked of the backend at once, where it has no process of its own."""
        with self._around(OF_TORCH), self._around(OF_PROCESS):
            yield

    @contextmanager
    def _around(self, parts: Sequence[Part]) -> Iterator[None]:
        before = [_read(part) for part in parts]
        for part in parts:
            if part in self._own:
                _write(part, self._own[part])
        try:
            yield
        finally:
            for part, was in zip(parts, before, strict=True):
                now = _read(part)
                if now == was:
                    self._own.pop(part, None)
                else:
                    if part.is_kept:
                        self._own[part] = now
                    _write(part, was)


def _read(part: Part) -> Any:  # noqa: ANN401 - parts are of many types
    try:
        return part.read()
    except _GONE:
        return None


def _write(part: Part, value: Any) -> None:  # noqa: ANN401 - parts are of many types
    if value is not None:
        with suppress(*_GONE):
            part.write(value)
