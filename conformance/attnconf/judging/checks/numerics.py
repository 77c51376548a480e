"""Clauses 1 to 6, 8 to 10, 14 and 18: the answer, and so the LSE, lies within the a-priori bound of the oracle's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.judging.account import account
from attnconf.judging.checks import outlines
from attnconf.judging.checks.check import always

if TYPE_CHECKING:
    from attnconf.judging.result import Failure
    from attnconf.judging.trial import Trial

CHECK_NAME = outlines.NUMERICS.name


def _run(trial: Trial, layer: int) -> list[Failure]:
    failure = account(trial, layer, CHECK_NAME)
    return [] if failure is None else [failure]


CHECK = outlines.NUMERICS.check(always, _run)
