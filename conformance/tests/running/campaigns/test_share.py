"""Shares of a campaign: what each counts, and when it ends."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING

from attnconf.mutants.registry import mutant_named
from attnconf.platforms import simulate
from attnconf.running.campaigns.campaign_report import CampaignReport
from attnconf.running.campaigns.share import Share, explore_share

if TYPE_CHECKING:
    import pytest

PAGED = "torch-paged (float32)"


def share(examples: int = 4, seed: int = 0) -> Share:
    return Share(backend="reference", family="free", model="free", examples=examples, seed=seed)


def test_a_share_counts_every_layer_once() -> None:
    found = explore_share(share())
    layers = sum(found.outcomes.values())
    assert found.cases >= 1
    assert found.outcomes == Counter(passed=layers)
    assert sum(sum(profile.histogram) for profile in found.profiles.values()) == layers
    assert not found.failures


def test_shares_of_different_seeds_draw_different_cases_and_add_up() -> None:
    one, other = explore_share(share()), explore_share(share(seed=1))
    assert one.profiles != other.profiles
    total = CampaignReport()
    total.add(one)
    total.add(other)
    assert total.cases == one.cases + other.cases
    parts = [report.profiles[PAGED] for report in (one, other)]
    assert total.profiles[PAGED].worst == max(part.worst for part in parts)
    assert min(part.median for part in parts) <= total.profiles[PAGED].median <= max(part.median for part in parts)


def test_a_share_of_many_explorations_counts_each_case_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnconf.running.campaigns.share.DRAWN_AT_ONCE", 3)
    found = explore_share(share(examples=10))
    assert 4 < found.cases <= 10
    assert sum(found.outcomes.values()) == sum(sum(profile.histogram) for profile in found.profiles.values())


def test_no_case_begins_after_its_time_and_what_ran_before_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter([0.0, 1.0, 2.0, 3.0, 11.0])
    monkeypatch.setattr("attnconf.running.campaigns.share.time", SimpleNamespace(monotonic=lambda: next(moments)))
    found = explore_share(replace(share(examples=10), seconds=10))
    assert found.cases == 3
    assert sum(found.outcomes.values()) == sum(sum(profile.histogram) for profile in found.profiles.values())


def test_a_failure_is_shrunk_and_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "attnconf.running.session.Registry.make", lambda *_: mutant_named("window-one-more").make(simulate("9.0"))
    )
    found = explore_share(share(examples=40))
    (failure,) = found.failures
    assert 1 <= found.cases < 40
    assert any(broken.clause == 2 and broken.suspicion for layer in failure.layers for broken in layer.failures)
