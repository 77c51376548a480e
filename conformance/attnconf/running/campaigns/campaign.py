"""Campaigns over many processes: false alarms of right backends, and the tightness of declared profiles."""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from typing import TYPE_CHECKING

from attnconf.cases.drawing.profiles import Profile, profile_named
from attnconf.cases.shape import KernelShape
from attnconf.errors import one_line
from attnconf.platforms import detect
from attnconf.running.build_plan import default_jobs, plan_builds
from attnconf.running.campaigns.campaign_report import CampaignReport
from attnconf.running.campaigns.share import DRAWN_AT_ONCE, Share, asked_by_share, explore_share
from attnconf.running.processes.watched import watched
from attnconf.running.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from attnconf.cases.case import Case
    from attnconf.cases.drawing.families import Family
    from attnconf.cases.dtypes import KVDtype
    from attnconf.platforms import Platform
    from attnconf.running.processes.declaration import Declaration
    from attnconf.running.processes.engine import Engine, LostError

LEAST_SHARE = 40
"""A share has no fewer cases, where there are as many: they are picked among the most candidates."""

_MANY_SHARES = 64
"""In how many shares a large campaign is cut: a process that dies costs one of them."""

_SEEDS = 1_000_000
"""How many shares one seed has for itself."""

_PLANNING_SHARES = 8
"""How many shares are drawn to know which kernels to build: further ones ask the same shapes."""


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """What is asked of a backend: some ``examples`` cases, spread over pairs of a family and a model.

    With a ``profile`` each pair gets as many as that gives it, of its lengths. With a ``kv_dtype`` all have such KV. No
    case begins after ``seconds``.
    """

    backend: str
    targets: tuple[tuple[Family, str], ...]
    examples: int
    seed: int = 0
    seconds: float = math.inf
    profile: Profile | None = None
    kv_dtype: KVDtype | None = None
    head_scales: bool = False

    def shares(self, processes: int) -> list[Share]:
        """Return the shares, the first ones of a target each: the same cases however many ``processes`` there are.

        Where a process has several, one after the other, they divide its time.
        """
        counts = [self._count(family) for family, _ in self.targets]
        largest = min(DRAWN_AT_ONCE, max(LEAST_SHARE, -(-sum(counts) // _MANY_SHARES)))
        turns = zip_longest(
            *(self._of_target(target, count, largest) for target, count in zip(self.targets, counts, strict=True))
        )
        shares = [share for share in chain.from_iterable(turns) if share is not None]
        seconds = self.seconds / -(-len(shares) // processes)
        return [replace(share, seed=self.seed * _SEEDS + index, seconds=seconds) for index, share in enumerate(shares)]

    def _count(self, family: Family) -> int:
        return -(-self.examples // len(self.targets)) if self.profile is None else self.profile.examples[family]

    def _of_target(self, target: tuple[Family, str], count: int, largest: int) -> list[Share]:
        parts = -(-count // largest)
        examples = -(-count // parts)
        whole = Share(
            backend=self.backend,
            family=target[0],
            model=target[1],
            examples=examples,
            seed=0,
            kv_dtype=self.kv_dtype,
            head_scales=self.head_scales,
        )
        if self.profile is not None:
            whole = replace(whole, max_kv_len=self.profile.max_kv_len, long_kv_len=self.profile.long_kv_len)
        return [whole] * parts


def declared(backend: str) -> tuple[Platform, Declaration]:
    """Return this machine and what ``backend`` declares on it. Raises as ``Session.declaration``."""
    session = Session(platform=detect(), profile=profile_named("replay"))
    with closing(session):
        return session.platform, session.declaration(backend)


def search(
    campaign: Campaign,
    engine: Engine,
    say: Callable[[str], None] = lambda _: None,
    found_before: Sequence[Case] = (),
) -> CampaignReport:
    """Explore ``campaign`` with the processes of ``engine``; stop none of them for a failure of another.

    What the backend compiles is built first, with all cores; ``say`` receives lines about it. The cases
    ``found_before`` are asked first, each as a share of its own. A Ctrl-C once the cases have begun ends them, and the
    shares that are done count.
    """
    shares = campaign.shares(engine.size)
    found = CampaignReport()
    found.build_seconds = _build(shares, len(campaign.targets), engine, say)
    started = time.perf_counter()
    came: dict[int, CampaignReport] = {}
    try:
        came.update(_answers(campaign, shares, engine, found_before))  # one by one
    except KeyboardInterrupt:
        found.interrupted = True
    for number in sorted(came):
        found.add(came[number])
    found.seconds = time.perf_counter() - started
    return found


def _answers(
    campaign: Campaign, shares: Sequence[Share], engine: Engine, found_before: Sequence[Case]
) -> Iterator[tuple[int, CampaignReport]]:
    """Yield what came of each case ``found_before`` and of each share, as it comes, with the place where it belongs."""
    again = [(campaign.backend, case) for case in found_before]
    for number, part in engine.map(ask_again, again, spoils=_is_spoilt):
        yield number, _kept(part, found_before[number].id)
    for number, part in engine.map(explore_share, shares, spoils=_is_spoilt):
        yield len(again) + number, _kept(part, shares[number].text)


def _kept(part: CampaignReport | LostError, what: str) -> CampaignReport:
    return part if isinstance(part, CampaignReport) else CampaignReport(lost=[f"{what}: {part}"])


def _is_spoilt(part: CampaignReport) -> bool:
    return bool(part.lost)


def _build(shares: Sequence[Share], targets: int, engine: Engine, say: Callable[[str], None]) -> float:
    """Build what the cases of ``shares`` need and return the seconds that planning and building took.

    The first ``targets`` of them have one target each.
    """
    started = time.perf_counter()
    asked = shares[: max(targets, _PLANNING_SHARES)]
    if not any(engine.everywhere(_is_built_here, shares[0])):
        return 0.0
    known = [found for _, found in engine.map(asked_by_share, asked) if isinstance(found, frozenset)]
    shapes = frozenset[KernelShape]().union(*known)
    if engine.is_here:
        build_here((shares[0], shapes), say)
    else:
        for line in chain.from_iterable(engine.everywhere(told_builds, (shares[0], shapes))):
            say(line)
    return time.perf_counter() - started


def _is_built_here(share: Share) -> bool:
    session = share.session()
    return session.platform.sm is not None and session.declaration(share.backend).is_builder


def build_here(asked: tuple[Share, frozenset[KernelShape]], say: Callable[[str], None]) -> None:
    """Build what the backend of a share needs for these shapes in this place; ``say`` receives lines about it."""
    share, shapes = asked
    plan = plan_builds(share.session(), [share.backend], lambda _: shapes, jobs=default_jobs())
    for line in plan.lines:
        say(line)
    report = plan.build(say)
    for name, why in report.failures.items():
        say(f"{name} does not build: {why}")


def told_builds(asked: tuple[Share, frozenset[KernelShape]]) -> list[str]:
    """Build as ``build_here`` does, and return the lines."""
    lines: list[str] = []
    build_here(asked, lines.append)
    return lines


def ask_again(asked: tuple[str, Case]) -> CampaignReport:
    """Ask a backend for one case, with every check."""
    backend, case = asked
    found = CampaignReport()
    session = Session(platform=detect(), profile=profile_named("replay"), isolate=False)
    try:
        with watched(case, session.case_seconds):
            result = session.ask(case, backend, "all")
    except Exception as error:  # noqa: BLE001 - whatever it is, the other cases count
        found.lost.append(f"{case.id}: {one_line(error)}")
        return found
    found.count([result])
    found.failures += [result] if result.is_failure else []
    return found
