"""The document: what every report says of some receipts, before it becomes Markdown, annotations or a page.

Evidence of different platforms is never added up: each platform has its matrix and its own verdict.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from attnconf.cases.geometry import unsharded
from attnconf.gate.invariants import cell_contradictions, contradictions
from attnconf.gate.played import broken_lines
from attnconf.report.gaps import Gap
from attnconf.report.matrix import Matrix
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnconf.gate.cells import Cell
    from attnconf.gate.receipt import PlatformRecord, Receipt
    from attnconf.report.bugs import Bug
    from attnconf.report.changes import Changes
    from attnconf.report.policy_status import PolicyStatus, Status


@dataclass(frozen=True)
class Backend:
    """One backend on one platform: counts of layers, and their errors in the bins of ``EDGES`` and one above.

    ``counted`` says what the bins count: layers, or the worst layer of each cell where a receipt has no histogram.
    ``seconds`` is what its cases took, None where a receipt does not say.
    ``providers`` says in words who provided it, empty where the receipts do not know.
    """

    name: str
    cells: tuple[Cell, ...]
    executed: int
    contract: int
    broken: int
    bins: tuple[int, ...]
    counted: Literal["layers", "cells"]
    worst: float | None
    reasons: tuple[tuple[str, int], ...]
    seconds: float | None = None
    providers: tuple[str, ...] = ()

    @property
    def is_asleep(self) -> bool:
        """Whether it ran nowhere, for want of something, so that its matrix says nothing."""
        return not self.executed and not self.broken and any(cell.not_run for cell in self.cells)


@dataclass(frozen=True)
class Site:
    """One platform with its versions: the runs on it by the names of their files, the matrix, the verdicts.

    ``listed`` are the kernels that FlashInfer's list has, of which none ran. ``where`` stands in front of what is not
    met here: the platform, if there are others.
    """

    platform: PlatformRecord
    runs: Mapping[str, Receipt]
    matrix: Matrix
    listed: Matrix
    backends: tuple[Backend, ...]
    policy_statuses: tuple[PolicyStatus, ...]
    bugs: tuple[Bug, ...]
    unexplained: tuple[Cell, ...]
    where: str = ""

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What is not met here: of a policy, or by what a run found itself."""
        found = [gap for one in self.policy_statuses for gap in one.gaps]
        told = bool(found) or any(one.broken for one in self.backends)
        for name, receipt in self.runs.items():
            impossible = (*contradictions(receipt), *cell_contradictions(receipt))
            found += [Gap(f"{self.where}{name} contradicts itself: {sentence}") for sentence in impossible]
            found += [Gap(f"{self.where}{name}: {line}") for line in broken_lines(receipt.played)]
            if receipt.complaints:
                found += [Gap(f"{self.where}{name}: {sentence}") for sentence in receipt.complaints]
            elif receipt.ending and not told:
                found.append(Gap(f"{self.where}{name}: {receipt.ending}"))
        return tuple(found)

    @property
    def is_wrong(self) -> bool:
        """Whether something is broken here, or not met."""
        return any(one.broken for one in self.backends) or bool(self.gaps)

    @property
    def title(self) -> str:
        """The device in words."""
        return self.platform.machine

    @property
    def versions(self) -> tuple[tuple[str, str], ...]:
        """Name and version of what the kernels were built from and run with."""
        names = ("cuda", "driver", "python", "torch", "triton", "flashinfer", "flashinfer_cubin")
        found = [(name, getattr(self.platform, name)) for name in names]
        return tuple((name.replace("_", "-"), str(version)) for name, version in found if version is not None)


@dataclass(frozen=True)
class Document:
    """Everything that a report says.

    ``changes`` are those since older receipts, where such are given; ``unfinished`` are runs that began, of which
    nothing else is known.
    """

    sites: tuple[Site, ...]
    changes: Changes | None = None
    unfinished: tuple[Gap, ...] = ()

    @property
    def policy_statuses(self) -> list[tuple[Site, PolicyStatus]]:
        """Every verdict with its platform."""
        return [(site, one) for site in self.sites for one in site.policy_statuses]

    @property
    def gaps(self) -> list[Gap]:
        """Everything that is not met."""
        return [*self.unfinished, *(gap for site in self.sites for gap in site.gaps)]

    @property
    def excused(self) -> list[tuple[str, list[Gap]]]:
        """What fails nothing and must be seen, by headings: a waiver with its issue, owner and last day comes first."""
        found = {
            "Waived": [gap for _, one in self.policy_statuses for gap in one.waived],
            "Unsupported": [gap for _, one in self.policy_statuses for gap in one.allowed],
            "Notes": [Gap(text) for text in self._each("remarks")],
            "Claims": [Gap(text) for text in self._each("claims")],
        }
        return [(heading, gaps) for heading, gaps in found.items() if gaps]

    def _each(self, name: str) -> dict[str, None]:
        return dict.fromkeys(text for _, one in self.policy_statuses for text in getattr(one, name))

    @property
    def unmet(self) -> int:
        """How many requirements are not met."""
        return sum(gap.count for gap in self.gaps)

    @property
    def is_evidence(self) -> bool:
        """Whether something was executed in which a feature mattered."""
        cells = [cell for site in self.sites for backend in site.backends for cell in backend.cells]
        return any(cell.executed and not cell.is_vacuous for cell in cells)

    def total(self, name: str) -> int:
        """Return the sum of one count of every cell."""
        return sum(getattr(cell, name) for site in self.sites for backend in site.backends for cell in backend.cells)

    @property
    def status(self) -> Status:
        """``not met`` if anything is wrong or unproven, ``met`` if every policy is met, ``open`` if none was judged."""
        statuses = {one.status for _, one in self.policy_statuses}
        if self.total("broken") or "not met" in statuses or self.gaps or not self.is_evidence:
            return "not met"
        return "met" if statuses == {"met"} else "open"

    @property
    def headline(self) -> str:
        """The outcome in one sentence, labelled when any of it is simulated."""
        label = "SIMULATED in part, which proves nothing: " if any(one.platform.simulated for one in self.sites) else ""
        return label + self._outcome

    @property
    def _outcome(self) -> str:
        broken, unmet = self.total("broken"), self.unmet
        if not self.total("executed"):
            begun = ("Nothing was executed", "The run has not finished", "No run has finished")
            return f"{begun[min(len(self.unfinished), 2)]}, so nothing is proven"
        if not self.is_evidence and not broken:
            return "No feature mattered in anything that was executed, so nothing is proven"
        found = [f"{counted(broken, 'layer')} broken"] if broken else []
        found += [f"{counted(unmet, 'requirement')} not met"] if unmet else []
        if found:
            return " and ".join(found).capitalize()
        names = " and ".join(dict.fromkeys(one.policy for _, one in self.policy_statuses))
        if self.status == "met":
            return f"Policy {names} is met on {' and '.join(dict.fromkeys(site.title for site in self.sites))}"
        return f"Nothing broken; policy {names} was not judged" if names else "Nothing broken; no policy was asked"

    @property
    def counts(self) -> str:
        """The layers by outcome, in words."""
        contract = self.total("contract_only")
        return (
            f"{counted(self.total('executed') - contract, 'layer')} judged on kernels, {contract:,} by contract only,"
            f" {self.total('broken'):,} broken, {self.total('not_run'):,} not run,"
            f" {self.total('unsupported'):,} declared unsupported"
        )


def cell_name(cell: Cell) -> str:
    """Return a cell in words, without its dtypes."""
    return f"{cell.shown_backend} {unsharded(cell.model)} {cell.layer_kind} {cell.mode}"
