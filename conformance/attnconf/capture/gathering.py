"""Gathering: the calls of a step until the next one begins, then its cases, within a budget."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from attnconf.capture.building import cases_of
from attnconf.capture.call import UnsayableError
from attnconf.errors import one_line
from attnconf.files import write_text
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from attnconf.capture.call import LayerCall
    from attnconf.cases.case import Case

LOG = ".capture"
"""Ends the name of the file in which each process says what it captured: no case, so replay leaves it alone."""


@dataclass(frozen=True)
class Budget:
    """One step of ``every`` is looked at, and at most so many cases are kept, each of a shape of its own."""

    every: int = 1
    most: int = 200


@dataclass
class Gathering:
    """Collects calls into ``folder``. ``model`` names what the cases are of; ``free`` credits no model.

    Engines call ``see`` for every layer of every step. It raises nothing: a server goes on whatever a capture meets.
    """

    folder: Path
    budget: Budget = field(default_factory=Budget)
    model: str = "free"
    steps: int = 0
    kept: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    _step: int | None = field(default=None, init=False, repr=False)
    _batch: object = field(default=None, init=False, repr=False)
    _names: set[str] = field(default_factory=set, init=False, repr=False)
    _calls: list[LayerCall] = field(default_factory=list, init=False, repr=False)
    _shapes: set[object] = field(default_factory=set, init=False, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def see(self, step: int, name: str, read: Callable[[], LayerCall | None], batch: object = None) -> None:
        """Take the call of the layer ``name`` in ``step``; ``read`` is only asked where the budget allows it.

        A step ends when its number changes, such as the address of its ``batch``, or when a layer is called again. The
        batch is kept until then: a later one at the same address would be taken for it.
        """
        with self._lock:
            if step != self._step or name in self._names:
                self._end()
                self._step, self._batch, self.steps = step, batch, self.steps + 1
            self._names.add(name)
            if self.kept >= self.budget.most or (self.steps - 1) % self.budget.every:
                return
            try:
                call = read()
            except UnsayableError as error:
                self.left_out[str(error)] += 1
            except Exception as error:  # noqa: BLE001 - the engine must not stop for us
                self.left_out[f"attnconf could not read it: {one_line(error)}"] += 1
            else:
                self._calls += [] if call is None else [call]

    def finish(self) -> None:
        """End the last step."""
        with self._lock:
            self._end()
            self._step = self._batch = None

    def close(self) -> None:
        """End the last step, and write what was captured."""
        self.finish()
        with self._lock:
            write_text(self.folder / f"{os.getpid()}{LOG}", "".join(f"{line}\n" for line in self.lines))

    @property
    def lines(self) -> list[str]:
        """What was captured, and what was left out for which reason."""
        first = f"{counted(self.kept, 'case')} of {counted(self.steps, 'step')}"
        return [first, *(f"left out: {counted(count, 'call')}: {why}" for why, count in self.left_out.most_common())]

    def _end(self) -> None:
        calls, self._calls = self._calls, []
        self._names = set()
        if not calls:
            return
        try:
            cases = cases_of(calls, model=self.model)
        except UnsayableError as error:
            self.left_out[str(error)] += len(calls)
            return
        except Exception as error:  # noqa: BLE001 - the engine must not stop for us
            self.left_out[f"attnconf could not say it: {one_line(error)}"] += len(calls)
            return
        for case in cases:
            self._keep(case)

    def _keep(self, case: Case) -> None:
        shape = _shape(case)
        if shape in self._shapes or self.kept >= self.budget.most:
            return
        self._shapes.add(shape)
        self.kept += 1
        write_text(self.folder / f"{case.id}.json", json.dumps(case.to_data(), indent=1) + "\n")


def _shape(case: Case) -> object:
    """Return what makes a case another one: layers, memory's form, and the lengths in whole pages."""
    size = case.paging.page_size
    lengths = tuple(sorted((one.prefix_len // size, one.new_tokens, one.shared_pages) for one in case.requests))
    paging = case.paging.model_copy(update={"recorded": None, "extra_columns": 0})
    dtypes = (case.dtypes, case.mode, case.padding_rows, case.query)
    return case.layers, dtypes, paging, lengths
