"""The race against peers' ways of testing: its page is that of its result, and a race finds what the result says."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from attnconf.backends.reference import ReferenceBackend
from attnconf.platforms import detect
from ci.benchmarks.peerstyles.cell import MOST_WORK, Tolerance, draw
from ci.benchmarks.peerstyles.page import LABELS, OWN, caught
from ci.benchmarks.peerstyles.pose import pose
from ci.benchmarks.peerstyles.race import PEERS
from ci.benchmarks.peerstyles.verdict import caught as fails
from ci.benchmarks.peerstyles.verdict import close

ROOT = Path(__file__).parents[2]
HERE = ROOT / "ci" / "benchmarks"
RESULT = json.loads((HERE / "peers.json").read_text(encoding="utf-8"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own script
        [sys.executable, "-m", "ci.benchmarks.peers", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def test_the_page_is_that_of_the_result(tmp_path: Path) -> None:
    assert run("--of", str(HERE / "peers.json"), "--check", str(HERE / "PEERS.md")).returncode == 0
    stale = tmp_path / "PEERS.md"
    stale.write_text("another page\n", encoding="utf-8")
    done = run("--of", str(HERE / "peers.json"), "--check", str(stale))
    assert done.returncode == 1
    assert "not the page" in done.stderr


def test_the_page_of_ci_says_what_was_measured() -> None:
    page = " ".join((ROOT / "ci" / "README.md").read_text(encoding="utf-8").split())
    cases = {side: len(caught(RESULT, side, by="cases")) for side in LABELS}
    seconds = {side: len(caught(RESULT, side, by="seconds")) for side in LABELS}
    least, most = (choose(cases[side] for side in PEERS) for choose in (min, max))
    assert f"Of {len(RESULT['mutants'])} of the wrong backends, {cases['smoke']} are caught by `smoke` and" in page
    assert f"{cases['gate']} by `gate` in {RESULT['cases']} cases each, and between {least} and {most} by" in page
    least, most = (choose(seconds[side] for side in PEERS) for choose in (min, max))
    assert f"between {least} and {most}, `smoke` {seconds['smoke']} and `gate` {seconds['gate']}" in page
    assert RESULT["seconds"] == 1, "the page says: in one CPU second"


def test_no_side_found_a_right_backend_wrong() -> None:
    assert set(RESULT["false_alarms"]) == set(LABELS)
    assert not any(RESULT["false_alarms"].values())


def test_a_race_over_two_mutants(tmp_path: Path) -> None:
    asked = ("window-one-more", "shared-kv-own-cache")
    written = tmp_path / "race.json"
    only = [argument for name in asked for argument in ("--only", name)]
    done = run("--json", str(written), "--cases", "4", "--seconds", "0", *only)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {mutant["id"]: mutant["found"] for mutant in json.loads(written.read_text(encoding="utf-8"))["mutants"]}
    assert tuple(found) == asked
    recorded = {mutant["id"]: mutant["found"] for mutant in RESULT["mutants"]}
    for name in asked:
        for side in LABELS:
            now, then = found[name][side], recorded[name][side]
            if side in OWN:
                assert now is not None, (name, side)  # what is recorded is of the draws of its own commit
            else:
                expected = then[0] if then is not None and then[0] <= 4 else None
                assert (now[0] if now is not None else None) == expected, (name, side)


@pytest.mark.parametrize("peer", PEERS)
def test_a_right_backend_passes_a_peers_tests(peer: str) -> None:
    rng = random.Random(7)  # noqa: S311 - a sample, no secret
    backend, platform = ReferenceBackend(), detect()
    for _ in range(6):
        cell = draw(PEERS[peer], rng)
        assert cell.work <= MOST_WORK
        posed = pose(cell)
        assert fails(posed, backend, platform) is False, cell
        assert posed.intact


@pytest.mark.parametrize(
    ("tolerance", "wrong", "value", "passes"),
    [
        (Tolerance(atol=1e-2, rtol=1e-2), 1, 1.03, False),
        (Tolerance(atol=1e-2, rtol=1e-2), 1000, 1.015, True),
        (Tolerance(atol=1e-2, rtol=1e-2, forgiven=0.01), 10, 9.0, True),
        (Tolerance(atol=1e-2, rtol=1e-2, forgiven=0.01), 11, 9.0, False),
        (Tolerance(atol=1e-2, rtol=1e-2), 1, float("nan"), False),
        (Tolerance(atol=1e-2, rtol=1e-2, nan_passes=True), 1000, float("nan"), True),
        (Tolerance(atol=1e-2, rtol=1e-2, either=True), 1000, 1.015, False),
        (Tolerance(atol=1e-2, rtol=2e-2, either=True), 1000, 1.015, True),
    ],
)
def test_comparisons(tolerance: Tolerance, wrong: int, value: float, *, passes: bool) -> None:
    out = torch.ones(1000)
    out[:wrong] = value
    assert close(out, torch.ones(1000), tolerance) is passes
