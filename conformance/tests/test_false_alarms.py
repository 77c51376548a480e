"""Campaigns over processes: what they count, and how they add up."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

from attnconf.cli import main
from attnconf.false_alarms import CampaignReport, Share, explore_share
from attnconf.report.histogram import campaign_lines

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def share(examples: int = 4, seed: int = 0) -> Share:
    return Share(backend="reference", family="free", model="free", examples=examples, seed=seed)


def test_a_share_counts_every_layer_once() -> None:
    found = explore_share(share())
    layers = sum(found.outcomes.values())
    assert found.cases >= 1
    assert found.outcomes == Counter(passed=layers)
    assert sum(sum(bins) for bins in found.histograms.values()) == layers
    assert not found.failures


def test_shares_of_different_seeds_draw_different_cases_and_add_up() -> None:
    one, other = explore_share(share()), explore_share(share(seed=1))
    assert one.histograms != other.histograms
    total = CampaignReport()
    total.add(one)
    total.add(other)
    assert total.cases == one.cases + other.cases
    assert total.worst["torch-paged"] == max(one.worst["torch-paged"], other.worst["torch-paged"])


def test_a_profile_looser_than_tenfold_is_named() -> None:
    loose = CampaignReport(cases=1, outcomes=Counter(passed=1), histograms={"k": [1, *[0] * 10]}, worst={"k": 0.05})
    assert "looser than tenfold" in "\n".join(campaign_lines(loose, "b"))
    tight = CampaignReport(cases=1, outcomes=Counter(passed=1), histograms={"k": [0] * 11}, worst={"k": 0.5})
    assert "looser" not in "\n".join(campaign_lines(tight, "b"))


def test_the_command_prints_and_writes_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "found.json"
    status = main(["campaign", "--backend", "reference", "--examples", "4", "--json", str(target)])
    assert status == 0
    assert "reference: " in capsys.readouterr().out
    data = json.loads(target.read_text())
    assert data["kernels"]["torch-paged"]["worst_units"] <= 1


def test_bad_numbers_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["campaign", "--backend", "reference", "--examples", "0"]) == 2
    assert capsys.readouterr().err == "attnconf: --examples: 0; allowed: 1 or more\n"
