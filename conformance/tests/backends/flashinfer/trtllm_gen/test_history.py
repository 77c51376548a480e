"""Public reports of kernels that do not exist: list and selector of their release say so, with the report's key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from packaging.version import Version

from attnconf.backends.flashinfer.trtllm_gen.prediction import Absent, Listed, predict
from conformance.tests.support.launches import a_launch

WIDE = {"num_qo_heads": 32, "num_kv_heads": 4, "head_dim": 512, "page_size": 64}
"""The full layers of gemma4-31b."""


@dataclass(frozen=True)
class Report:
    """What was asked on which release, what FlashInfer said, and the first release that has the fix."""

    launch: dict[str, Any]
    release: str
    key: str
    fixed: str


REPORTS = {
    "flashinfer#3343": Report(
        {**WIDE, "max_q_len": 5, "max_kv_len": 1029},
        "0.6.11.post1",
        "qkvLayout=2, maskType=1, kernelType=3, tileScheduler=0, multiCtasKvMode=1, headDimPerCtaV=512, headDimQk=512,"
        " headDimV=512, tileSizeQ=64, tileSizeKv=128, numTokensPerPage=64",
        "0.6.14",
    ),
    "flashinfer#3511": Report(
        {**WIDE, "max_q_len": 16, "max_kv_len": 1024},
        "0.6.11.post1",
        "qkvLayout=2, maskType=1, kernelType=3, tileScheduler=0, multiCtasKvMode=1, headDimPerCtaV=512, headDimQk=512,"
        " headDimV=512, tileSizeQ=128, tileSizeKv=128, numTokensPerPage=64",
        "0.6.14",
    ),
    "flashinfer#4094": Report(
        {"num_qo_heads": 64, "num_kv_heads": 64, "head_dim": 128, "page_size": 128, "max_kv_len": 4096},
        "0.6.15",
        "qkvLayout=2, maskType=1, kernelType=2, tileScheduler=0, multiCtasKvMode=1, headDimPerCtaV=128, headDimQk=128,"
        " headDimV=128, tileSizeQ=8, tileSizeKv=128, numTokensPerPage=128, dynamicNumTokensPerPage=0",
        "0.6.16",
    ),
    "sglang#27175": Report(
        {"num_qo_heads": 16, "num_kv_heads": 1, "head_dim": 512, "page_size": 64, "max_q_len": 6, "max_kv_len": 300},
        "0.6.12",
        "qkvLayout=2, maskType=1, kernelType=3, tileScheduler=0, multiCtasKvMode=1, headDimPerCtaV=512, headDimQk=512,"
        " headDimV=512, tileSizeQ=128, tileSizeKv=128, numTokensPerPage=64, dynamicNumTokensPerPage=0",
        "0.6.14",
    ),
    "sglang#25461": Report(
        {**WIDE, "max_q_len": 5, "max_kv_len": 4096},
        "0.6.11",
        "qkvLayout=2, maskType=1, kernelType=3, tileScheduler=0, multiCtasKvMode=1, headDimPerCtaV=512, headDimQk=512,"
        " headDimV=512, tileSizeQ=64, tileSizeKv=128, numTokensPerPage=64",
        "0.6.14",
    ),
}
FAMILY = ((10, 0), (10, 3))


@pytest.mark.parametrize("sm", FAMILY)
@pytest.mark.parametrize("name", REPORTS)
def test_the_release_of_a_report_lacks_its_kernel_and_the_fix_brings_it(name: str, sm: tuple[int, int]) -> None:
    report = REPORTS[name]
    launch = a_launch(**report.launch)
    answer = predict(launch, Version(report.release), sm)
    assert isinstance(answer, Absent)
    assert answer.key.startswith(report.key)
    assert isinstance(predict(launch, Version(report.fixed), sm), Listed)


def test_what_reports_call_the_largest_that_works_is_listed() -> None:
    assert isinstance(predict(a_launch(**WIDE, max_q_len=4, max_kv_len=1028), Version("0.6.11.post1"), (10, 0)), Listed)
    few = a_launch(num_qo_heads=64, num_kv_heads=64, head_dim=128, page_size=64, max_kv_len=4096)
    assert isinstance(predict(few, Version("0.6.15"), (10, 0)), Listed)
