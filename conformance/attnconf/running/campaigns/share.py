"""Shares: what one process of a campaign explores at once."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attnconf.backends.demands import as_promised
from attnconf.cases.drawing.profiles import Profile
from attnconf.errors import one_line
from attnconf.platforms import detect
from attnconf.running.campaigns.campaign_report import CampaignReport
from attnconf.running.explore import explore
from attnconf.running.planned_shapes import PLANNED_CASES, shapes_asked
from attnconf.running.processes.watched import watched
from attnconf.running.session import Session

if TYPE_CHECKING:
    from attnconf.cases.case import Case
    from attnconf.cases.drawing.families import Family
    from attnconf.cases.dtypes import KVDtype
    from attnconf.cases.shape import KernelShape
    from attnconf.judging.result import CaseResult


MAX_KV_LEN = 400

DRAWN_AT_ONCE = 400
"""Cases of one exploration: the first ones of each are picked, and a share holds no more of them at once."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one process explores at once: up to ``examples`` cases of one family and model, begun within ``seconds``.

    Lengths are those of a ``Profile``. With a ``kv_dtype`` all cases have such KV.
    """

    backend: str
    family: Family
    model: str
    examples: int
    seed: int
    seconds: float = math.inf
    max_kv_len: int = MAX_KV_LEN
    long_kv_len: int = 0
    kv_dtype: KVDtype | None = None
    head_scales: bool = False

    def profile(self, examples: int) -> Profile:
        """Return what draws ``examples`` cases of it."""
        return Profile(
            name="campaign",
            models=(self.model,),
            examples={self.family: examples},
            max_kv_len=self.max_kv_len,
            long_kv_len=self.long_kv_len,
            kv_dtype=self.kv_dtype,
            head_scales=self.head_scales,
        )

    def session(self) -> Session:
        """Return a session on this machine that asks its backend, in this process."""
        profile = self.profile(min(self.examples, PLANNED_CASES))
        return Session(platform=detect(), profile=profile, seed=self.seed, isolate=False)

    @property
    def text(self) -> str:
        """What it explores, in words."""
        return f"{self.family} of {self.model}"


def asked_by_share(share: Share) -> frozenset[KernelShape]:
    """Return the kernel shapes that the first cases of one process's share ask."""
    return frozenset(shapes_asked(share.session(), [(share.family, share.model)], (), share.backend))


def explore_share(share: Share) -> CampaignReport:
    """Explore one process's share. Raises ``BackendUnavailableError`` when the backend does not work here.

    Any other error, such as one of a GPU that an illegal access took down, ends the share: what ran before counts.
    """
    until = time.monotonic() + share.seconds
    session = share.session()
    backend = session.declaration(share.backend)
    found = CampaignReport()
    results: dict[str, CaseResult] = {}

    def run(case: Case) -> CaseResult:
        if time.monotonic() > until:
            raise _TimeIsUpError
        promised = as_promised(case, backend.promises)
        if promised.id not in results:
            with watched(promised, session.case_seconds):
                results[promised.id] = session.run(promised, share.backend, explain=False, count_effects=False)
        return results[promised.id]

    def rerun(case: Case) -> CaseResult:
        with watched(case, session.case_seconds):
            return session.ask(case, share.backend, "all", explain=False, count_effects=False)

    def explain(case: Case) -> CaseResult:
        with watched(case, session.case_seconds):
            return session.ask(case, share.backend, "all")

    try:
        for start in range(0, share.examples, DRAWN_AT_ONCE):
            drawn = replace(
                session.drawn,
                seed=share.seed * 1_000 + start // DRAWN_AT_ONCE,
                profile=share.profile(min(DRAWN_AT_ONCE, share.examples - start)),
            )
            draws = drawn.draws(share.family, share.model)
            failure = explore(draws, run, rerun=rerun, explain=explain).failure
            if failure is not None:
                found.failures.append(failure)
                break
    except _TimeIsUpError:
        pass
    except Exception as error:  # noqa: BLE001 - whatever it is, the other shares and the cases before it count
        found.lost.append(f"{share.text}: {one_line(error)}")
        found.failures = found.failures or [result for result in results.values() if result.is_failure]
    found.count(results.values())
    return found


class _TimeIsUpError(Exception):
    """The share's time is over."""
