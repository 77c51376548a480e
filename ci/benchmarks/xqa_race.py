"""Race FlashInfer's own test file of XQA against a campaign: executed cases a second, cold and warm.

``python -m ci.benchmarks.xqa_race --file tests/attention/test_trtllm_gen_attention_decode_xqa.py --json FILE`` runs
each side in one process twice: from an empty folder of kernels, so with its builds, and once more with what the first
run built. FlashInfer's file is of a checkout of its release and brings its own way to build in parallel. A case is
executed where its kernel ran and was judged: of pytest's tests those that were not skipped, of a campaign those with a
judged layer. FlashInfer's file has thousands of tests: ``--seconds`` ends a run with what it has executed until then.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from dataclasses import asdict, dataclass
from pathlib import Path

from attnconf.platforms import detect

SIDES = ("attnconf", "flashinfer")
"""Ours is first: FlashInfer's file leaves what it built in the installed package, where ours would find it."""


@dataclass(frozen=True)
class Ran:
    """One run of a side: its cases, how many were ``executed`` and ``failed``, and its wall time in seconds."""

    side: str
    state: str
    cases: int
    executed: int
    failed: int
    seconds: float
    command: str

    @property
    def text(self) -> str:
        """The run on one line."""
        rate = self.executed / self.seconds
        return (
            f"{self.side}, {self.state}: {self.executed} cases executed of {self.cases}, {self.failed} failed, "
            f"{self.seconds:.0f} s, {rate:.2f} a second"
        )


def main() -> int:
    """Run the race; return 1 where a run executed nothing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--file", type=Path, required=True, help="FlashInfer's test file, in a checkout of its release")
    parser.add_argument("--only", default="bf16-bf16-bf16", metavar="K", help="pytest's -k for it (%(default)s)")
    parser.add_argument("--kv-dtype", default="bfloat16", help="the campaign's keys and values (%(default)s)")
    parser.add_argument("--model", action="append", default=[], help="a model of the campaign (repeatable; all)")
    parser.add_argument("--examples", type=int, default=800, help="cases of the campaign (%(default)s)")
    parser.add_argument("--seconds", type=float, default=math.inf, metavar="S", help="end each run after S")
    parser.add_argument("--side", action="append", choices=SIDES, default=[], help="this side alone (repeatable)")
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="write the figures")
    given = parser.parse_args()
    runs: list[Ran] = []
    for side in given.side or SIDES:
        with tempfile.TemporaryDirectory(prefix="xqa-race-") as folder:
            for state in ("cold", "warm"):
                ran = _flashinfer(given, Path(folder)) if side == "flashinfer" else _attnconf(given, Path(folder))
                runs.append(Ran(side, state, *ran))
                print(runs[-1].text, flush=True)
                result = {"platform": detect().model_dump(mode="json"), "runs": [asdict(run) for run in runs]}
                given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 0 if all(run.executed for run in runs) else 1


def _flashinfer(given: argparse.Namespace, folder: Path) -> tuple[int, int, int, float, str]:
    report = folder / "junit.xml"
    file = given.file.resolve()
    options = ["-q", "-k", given.only, f"--junitxml={report}", "-p", "no:cacheprovider"]
    root = next(above for above in file.parents if above.name == "tests").parent
    seconds = timed([sys.executable, "-m", "pytest", str(file), *options], folder, root, given.seconds)
    told = " ".join(["pytest", file.name, *options[1:3]])
    return *executed_tests(_written(report)), seconds, told


def _attnconf(given: argparse.Namespace, folder: Path) -> tuple[int, int, int, float, str]:
    report = folder / "campaign.json"
    asked = ["--backend", "trtllm_mha", "--family", "decode", "--family", "verify", "--kv-dtype", given.kv_dtype]
    asked += [part for model in given.model for part in ("--model", model)]
    asked += ["--examples", str(given.examples)]
    command = [sys.executable, "-m", "attnconf", "campaign", *asked, "--json", str(report)]
    seconds = timed(command, folder, Path.cwd(), given.seconds)
    found = json.loads(_written(report))
    return found["cases"], found["executed"], len(found["failures"]), seconds, " ".join(["attnconf campaign", *asked])


def _written(report: Path) -> str:
    """Return the text of a report, or end with a sentence: why there is none is above it, in the run's own words."""
    if not report.is_file():
        sys.exit(f"{report.name} was not written: that run ended before its first case")
    return report.read_text(encoding="utf-8")


def executed_tests(junit: str) -> tuple[int, int, int]:
    """Return how many tests pytest's report in JUnit's XML has, how many were not skipped, and how many failed."""
    suites = list(ET.fromstring(junit).iter("testsuite"))  # noqa: S314 - pytest's own report of a run that was ours
    tests, skipped, failed, broken = (
        sum(int(suite.get(count, "0")) for suite in suites) for count in ("tests", "skipped", "failures", "errors")
    )
    return tests, tests - skipped, failed + broken


def timed(command: list[str], folder: Path, place: Path, limit: float) -> float:
    """Run ``command`` in ``place`` with its kernels in ``folder`` and return its seconds.

    After ``limit`` seconds it gets a Ctrl-C, after which both sides write their reports. What a script starts in the
    background ignores one, and so would the command: so this process ignores it no longer.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    environment = os.environ | {"FLASHINFER_WORKSPACE_BASE": str(folder)}
    environment.pop("ATTNCONF_KERNEL_CACHE", None)
    started = time.perf_counter()
    with subprocess.Popen(command, env=environment, cwd=place) as process:  # noqa: S603 - pytest and our own command
        try:
            process.wait(None if limit == math.inf else limit)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
