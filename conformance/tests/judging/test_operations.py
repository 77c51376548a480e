"""How many operations of torch one small case costs: on a GPU each is started for some 10 us, while the GPU waits.

What a backend asks for itself does not count. The numbers are those of the day on which a ceiling was set, and a tenth:
who adds a loop over layers, requests or probes to a hot path sees it here, and not in a slow campaign.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import attnconf
from attnconf.backends.reference import make
from attnconf.cases.case import Case, Layer, Mode, Paging, Request
from attnconf.cases.models import load_model
from attnconf.judging.checks.catalogue import all_checks
from attnconf.judging.run import run_case
from attnconf.platforms import Platform

_HOME = f"{Path(attnconf.__file__).parent}/"

_VIEWS = {"view", "slice", "select", "transpose", "unsqueeze", "squeeze", "expand", "as_strided", "permute", "unbind"}
_FREE = _VIEWS | {"detach", "alias", "_unsafe_view", "split", "t"}
"""Operations that start nothing on a device."""


_GROWTH = 1.6
"""Times as many operations that four times as many requests may cost."""


class Operations(TorchDispatchMode):
    """Counts operations by the package or module below ``attnconf`` that asked for them."""

    def __init__(self) -> None:
        super().__init__()
        self.count: Counter[str] = Counter()
        self.lines: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401 - torch's own
        del types
        if func.overloadpacket.__name__ not in _FREE:
            self._add()
        return func(*args, **(kwargs or {}))

    def _add(self) -> None:
        frame = sys._getframe(2)
        while frame is not None and not frame.f_code.co_filename.startswith(_HOME):
            frame = frame.f_back
        if frame is None:
            return
        file = frame.f_code.co_filename.removeprefix(_HOME)
        self.count[file.partition("/")[0]] += 1
        self.lines[f"{file}:{frame.f_lineno}"] += 1


def small(mode: Mode, *requests: Request) -> Case:
    """Return a case over one layer of each kind of Gemma 4 E2B, of which two share the caches of others."""
    geometry = load_model("gemma4-e2b").slice(8)
    layers = tuple(Layer.model_validate(one.model_dump()) for one in geometry.case_layers())
    return Case(mode=mode, layers=layers, requests=requests, paging=Paging(page_size=16), seed=3)


def counted(case: Case) -> Operations:
    """Return the operations of one judgement by every check, warm, with its effects."""
    backend = make(Platform())

    def judge() -> bool:
        return run_case(case, backend, Platform(), torch.device("cpu"), choose=all_checks).is_failure

    assert not judge()
    with Operations() as operations:
        judge()
    return operations


DECODE = {"cases": 3890, "judging": 1130, "oracle": 1040, "numerics.py": 1970}
EXTEND = {"cases": 4050, "judging": 1180, "oracle": 1040, "numerics.py": 1840}
"""Ceilings by the package or module that asks."""


def test_a_small_decode_stays_below_its_ceilings() -> None:
    _hold(small("decode", Request(prefix_len=70), Request(prefix_len=33)), DECODE)


def test_a_small_extend_stays_below_its_ceilings() -> None:
    _hold(small("extend", Request(prefix_len=40, new_tokens=6), Request(prefix_len=17, new_tokens=3)), EXTEND)


def test_more_requests_cost_few_operations() -> None:
    few, many = (counted(small("decode", *[Request(prefix_len=40)] * count)).count for count in (2, 8))
    grown = {part: many[part] / few[part] for part in DECODE}
    assert all(factor < _GROWTH for factor in grown.values()), grown


def _hold(case: Case, ceilings: dict[str, int]) -> None:
    operations = counted(case)
    found = {part: operations.count[part] for part in ceilings}
    assert all(found[part] <= ceilings[part] for part in ceilings), (found, operations.lines.most_common(40))
