"""Backends of the installed sglang, and cases small enough for Triton's interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

import widened
from attnconf.backends.sglang.backend import make_triton
from attnconf.backends.sglang.trtllm import make_trtllm_mha
from attnconf.checks.catalogue import CHECKS
from attnconf.platforms import detect
from attnconf.run import run_case

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.protocol import Backend
    from attnconf.case import Case
    from attnconf.platforms import Platform
    from attnconf.result import CaseResult

    Judge = Callable[..., CaseResult]


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
        return run_case(case, [backend], platform, torch.device("cpu"), choose=lambda _: chosen)[0]

    return judged
