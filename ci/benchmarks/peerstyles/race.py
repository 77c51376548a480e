"""Ask mutants: each side puts its own questions, in a drawn order, until a fault shows or its share is used up."""

from __future__ import annotations

import multiprocessing
import os
import platform as machine
import random
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch

from attnconf.cases.drawing.profiles import profile_named
from attnconf.errors import BackendUnavailableError
from attnconf.mutants.mutant import under_name
from attnconf.mutants.registry import MUTANTS, mutant_named
from attnconf.platforms import detect
from attnconf.running.agenda import agenda
from attnconf.running.session import Session
from ci.benchmarks.peerstyles import flashinfer, sglang, tensorrt_llm, vllm
from ci.benchmarks.peerstyles.cell import draw
from ci.benchmarks.peerstyles.page import LABELS, OWN
from ci.benchmarks.peerstyles.pose import Posed, pose, warm
from ci.benchmarks.peerstyles.verdict import caught

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnconf.backends.protocol import Backend
    from attnconf.mutants.mutant import Mutant
    from attnconf.platforms import Platform
    from attnconf.running.agenda import AgendaItem
    from ci.benchmarks.peerstyles.cell import Draw

T = TypeVar("T")

PEERS: dict[str, tuple[Draw, ...]] = {
    "flashinfer": flashinfer.GRIDS,
    "vllm": vllm.GRIDS,
    "sglang": sglang.GRIDS,
    "tensorrt_llm": tensorrt_llm.GRIDS,
}
RIGHT = ("reference", "trtllm_mha")
"""Backends that no side may find fault with: those that the mutants change."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What every side may spend on one mutant: so many cases, or so many CPU seconds, whichever is more."""

    cases: int
    seconds: float
    seed: int = 0


class Side(Protocol):
    """One way of testing: its ``index``-th question to a backend, whether it shows a fault, and its CPU seconds."""

    total: int

    def ask(self, name: str, backend: Backend, index: int) -> tuple[bool, float]:
        """Ask, and return whether a fault showed, and what that cost on its own."""
        ...


@dataclass
class PeerSide:
    """A peer's cells, drawn by a seed; each is posed once for all mutants, and charged to each."""

    grids: tuple[Draw, ...]
    seed: int
    platform: Platform
    total: int = 10_000
    _rng: random.Random = field(init=False)
    _posed: list[tuple[Posed, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)  # noqa: S311 - a sample, no secret
        warm()

    def ask(self, name: str, backend: Backend, index: int) -> tuple[bool, float]:
        """Ask the peer's question; what a backend declares unsupported, the peer would skip."""
        del name
        while len(self._posed) <= index:
            cell = draw(self.grids, self._rng)
            self._posed.append(_timed(partial(pose, cell)))
        posed, posing = self._posed[index]
        found, asking = _timed(partial(caught, posed, backend, self.platform))
        if not posed.intact:
            self._posed[index] = (pose(posed.cell), posing)
        return bool(found), posing + asking


@dataclass
class OwnSide:
    """The cases of an attnconf profile in the order of its agenda, each with the checks that the suite gives it."""

    profile: str
    seed: int
    platform: Platform
    total: int = field(init=False)
    _session: Session = field(init=False)
    _agenda: tuple[AgendaItem, ...] = ()
    _drawing: float = 0.0

    def __post_init__(self) -> None:
        self._session = Session(platform=self.platform, profile=profile_named(self.profile), seed=self.seed)
        self._agenda, drawing = _timed(partial(agenda, self._session))
        self.total = len(self._agenda)
        self._drawing = drawing / self.total

    def ask(self, name: str, backend: Backend, index: int) -> tuple[bool, float]:
        """Ask a case of the suite, or a probe of what the backend declares unsupported."""
        raced = f"raced:{name}"  # the right implementations are raced, too, and their own names are taken
        if self._session.registry.registered(raced) is None:
            self._session.registry.register(raced, lambda _: under_name(backend, raced))
        result, asking = _timed(partial(self._agenda[index].run, self._session, raced, explain=False))
        return result.is_failure, self._drawing + asking


def _timed(call: Callable[[], T]) -> tuple[T, float]:
    started = time.process_time()
    value = call()
    return value, time.process_time() - started


def asked(only: Sequence[str] = ()) -> tuple[tuple[Mutant, ...], dict[str, str]]:
    """Return the mutants that are asked, all or ``only`` some, and why others are left out."""
    chosen: list[Mutant] = []
    left_out: dict[str, str] = {}
    for mutant in (mutant_named(name) for name in only) if only else MUTANTS:
        if mutant.needs_gpu:
            left_out[mutant.id] = "its clause is judged on a GPU only"
        elif getattr(mutant.make, "implementation", "") == "triton":
            left_out[mutant.id] = "Triton's interpreter takes seconds a case"
        else:
            chosen.append(mutant)
    return tuple(chosen), left_out


def race(share: Share, only: Sequence[str], jobs: int, show: Callable[[str], None]) -> dict[str, Any]:
    """Ask every side for every mutant, and for the right backends; return the result as JSON data."""
    mutants, left_out = asked(only)
    names = [mutant.id for mutant in mutants]
    work = partial(side_result, share=share, names=names)
    found: dict[str, dict[str, Any]] = {}
    if jobs == 1:
        found = {side: work(side) for side in LABELS}
    else:
        with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
            order = [*OWN, *PEERS]  # the longest first
            found = dict(zip(order, pool.map(work, order), strict=True))
    for side, result in found.items():
        show(f"{LABELS[side]}: {sum(value is not None for value in result['found'].values())} of {len(names)} caught")
    return {
        "schema": "attnconf.peers/1",
        "date": datetime.now(UTC).date().isoformat(),
        "machine": f"{os.cpu_count()} cores of {_processor()}, one a side",
        "versions": {"python": machine.python_version(), **{name: version(name) for name in ("torch", "attnconf")}},
        "seed": share.seed,
        "cases": share.cases,
        "seconds": share.seconds,
        "false_alarms": {side: result["false_alarms"] for side, result in found.items()},
        "totals": {side: result["total"] for side, result in found.items() if side in OWN},
        "mutants": [
            {
                "id": mutant.id,
                "clause": mutant.clause,
                "summary": mutant.summary,
                "found": {side: found[side]["found"][mutant.id] for side in LABELS},
            }
            for mutant in mutants
        ],
        "left_out": left_out,
    }


def side_result(side: str, share: Share, names: Sequence[str]) -> dict[str, Any]:
    """Return what one side finds: by mutant the cases and CPU seconds to the first fault, or None."""
    torch.set_num_threads(1)
    platform = detect()
    asker: Side
    asker = OwnSide(side, share.seed, platform) if side in OWN else PeerSide(PEERS[side], share.seed, platform)
    alarms = []
    for name in RIGHT:
        right = _right(name, platform)
        if right is not None and any(asker.ask(name, right, index)[0] for index in range(share.cases)):
            alarms.append(name)
    found = {name: _hunt(asker, name, share, side in OWN, platform) for name in names}
    return {"found": found, "false_alarms": alarms, "total": asker.total}


def _hunt(asker: Side, name: str, share: Share, whole: bool, platform: Platform) -> list[float] | None:  # noqa: FBT001
    """Return (cases, seconds) to the first fault. An attnconf profile is asked to its end: what it misses is news."""
    backend = mutant_named(name).make(platform)
    spent = 0.0
    for index in range(asker.total):
        if not whole and index >= share.cases and spent >= share.seconds:
            break
        fault, seconds = asker.ask(name, backend, index)
        spent += seconds
        if fault:
            return [index + 1, round(spent, 3)]
    return None


def _right(name: str, platform: Platform) -> Backend | None:
    from attnconf.backends.registry import Registry

    try:
        return Registry().make(name, platform)
    except BackendUnavailableError:
        return None


def _processor() -> str:
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{machine.machine()} ({models[0]})" if models else machine.machine()
