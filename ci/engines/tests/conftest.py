"""Backends of the installed sglang, and cases small enough for Triton's interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from attnconf.backends.engines.sglang.backend import make_triton
from attnconf.backends.engines.sglang.trtllm import make_trtllm_mha
from attnconf.cases.case import Case
from attnconf.judging.checks.catalogue import CHECKS
from attnconf.judging.run import run_case
from attnconf.platforms import detect
from ci.engines import widened

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Backend
    from attnconf.judging.result import CaseResult
    from attnconf.platforms import Platform

    Finding = Callable[[str], Case]
    Judge = Callable[..., CaseResult]

FINDINGS = Path(__file__).parents[3] / "fixtures" / "findings"


@pytest.fixture(scope="session")
def platform() -> Platform:
    return detect()


@pytest.fixture(scope="session")
def triton(platform: Platform) -> Backend:
    return make_triton(platform)


@pytest.fixture(scope="session")
def whole_window(platform: Platform) -> Backend:
    return widened.make(platform)


@pytest.fixture(scope="session")
def trtllm_mha(platform: Platform) -> Backend:
    return make_trtllm_mha(platform)


@pytest.fixture(scope="session")
def judge(platform: Platform) -> Judge:
    """Run a case on a backend: once, with the checks of that run, or ``thorough``, with every check."""

    def judged(backend: Backend, case: Case, *, thorough: bool = False) -> CaseResult:
        chosen = tuple(check for check in CHECKS if thorough or not check.extra)
        return run_case(case, backend, platform, torch.device("cpu"), choose=lambda _: chosen)

    return judged


@pytest.fixture(scope="session")
def finding() -> Finding:
    """Return the case of a page of ``fixtures/findings``, by the page's name."""

    def read(name: str) -> Case:
        return Case.model_validate_json((FINDINGS / f"{name}.json").read_text(encoding="utf-8"))

    return read
