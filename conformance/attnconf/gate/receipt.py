"""Receipt: what a run proves, as a file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from attnconf.backends.protocol import CONTRACT
from attnconf.gate.asked import Asked
from attnconf.gate.cells import Cell, Count, merge_cells, tally
from attnconf.gate.failed_case import FailedCase
from attnconf.gate.listed import ListedCell
from attnconf.gate.played import PlayedStories
from attnconf.gate.provider import Provider
from attnconf.gate.sealed import Digest, Sealed
from attnconf.platforms import Platform, parse_sm
from attnconf.values import Value
from attnconf.version import __version__

__all__ = [
    "Cell",
    "FailedCase",
    "PlatformRecord",
    "PolicyRef",
    "Receipt",
    "begun_receipt",
    "merge_cells",
    "record_platform",
    "recorded_platform",
    "tally",
]

UNFINISHED = "its run began and has not finished: it died, was stopped before its end, or is still running"

_OLDER = ("attnconf.receipt/1", "attnconf.receipt/2")


class PlatformRecord(Value):
    """Where a run happened. ``sm`` is ``"10.0"``, None without a GPU; the others are version texts, None if missing.

    ``simulated`` labels the machine of a rehearsal, on which nothing ran: it proves nothing.
    """

    device: str
    sm: Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")] | None
    cuda: str | None
    driver: str | None
    python: str
    torch: str | None
    triton: str | None
    flashinfer: str | None
    flashinfer_cubin: str | None
    simulated: bool = False

    @property
    def machine(self) -> str:
        """The device in words, with its label if it is none."""
        name = f"{self.device}, SM {self.sm}" if self.sm else "CPU only, no GPU"
        return f"SIMULATED {name}" if self.simulated else name


class PolicyRef(Value):
    """The policy that a run was held to: its name, and the digest of its content."""

    name: str
    digest: str


_OLDER = ("attnconf.receipt/1", "attnconf.receipt/2")
"""Schemas whose files are still read."""


class Receipt(Sealed):
    """What one run executed and found.

    ``state`` is ``begun`` from the start of the run on, before anything of it is known, and ``finished`` once it ended.
    ``git_sha`` is that of the tested tree, ending in ``-dirty`` when it had changes, None outside a repository.
    ``started`` is an ISO 8601 time with its offset, ``seconds`` the wall time of the run. ``failures`` are the smallest
    failing cases of its tests. ``plan`` is the digest of the plan that the run was a part of, ``job`` its name there;
    both are None outside a plan. ``exit_status`` is how the run ended, 0 if it was green and None in older files;
    ``complaints`` are what it found not to be met beside its cells and its policy. ``spared`` says by backend what its
    drawn cases came without, for it does not promise to bear it; empty in older files.
    ``backend_seconds`` is the wall time that the cases of each backend took, judging included; empty in older files.
    ``cases`` is how many distinct cases were executed, each on one backend, and ``repeated`` says by backend how many
    results were of a case that had been asked before, which counts once; older files, of which ``cases`` is None,
    counted it again. ``providers`` says by backend who brought it into the run; empty in files of an older schema, of
    which the backends of contract readings end in ``[contract]``: that is read as their evidence. ``agenda`` is the
    digest of the ids of all cases that the profile draws here with this seed; None where they differ every time, and in
    older files. ``asked`` says by backend what drawn cases asked of it, and ``played`` what the machine of serving
    played before each; both are empty in older files. ``listed`` is what FlashInfer's list says of kernels, which
    proves nothing; empty in older files. ``digest`` is that of everything
    else. A file of the schema ``attnconf.receipt/1`` has none of these, and no histograms. One without a digest proves
    nothing to ``attnconf verify``, unless it is allowed by name.
    """

    schema_id: Literal["attnconf.receipt/3"] = Field(default="attnconf.receipt/3", alias="schema")
    state: Literal["begun", "finished"] = "finished"
    attnconf: str = __version__
    git_sha: str | None
    platform: PlatformRecord
    policy: PolicyRef | None
    plan: Digest | None = None
    job: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    profile: str
    seed: Annotated[int, Field(ge=0)]
    started: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    cells: tuple[Cell, ...]
    failures: tuple[FailedCase, ...] = ()
    exit_status: Annotated[int, Field(strict=True)] | None = None
    complaints: tuple[str, ...] = ()
    spared: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    backend_seconds: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(default_factory=dict)
    providers: dict[str, Provider] = Field(default_factory=dict)
    cases: Count | None = None
    repeated: dict[str, Count] = Field(default_factory=dict)
    agenda: Digest | None = None
    listed: tuple[ListedCell, ...] = ()
    asked: dict[str, Asked] = Field(default_factory=dict)
    played: tuple[PlayedStories, ...] = ()

    @property
    def ending(self) -> str:
        """How a run that was red ended, in words; empty if it was green, or if the file does not say."""
        if self.state == "begun":
            return UNFINISHED
        if not self.exit_status:
            return ""
        return f"its run ended with exit status {self.exit_status}" + "".join(f"; {one}" for one in self.complaints)

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, data: object) -> object:
        if not (isinstance(data, dict) and data.get("schema") in _OLDER):
            return data
        data = {**data, "schema": "attnconf.receipt/3"}
        for name in ("cells", "failures"):
            if isinstance(data.get(name), list | tuple):
                data[name] = [_with_evidence(one) for one in data[name]]
        if isinstance(data.get("spared"), dict):
            data["spared"] = {str(name).removesuffix(CONTRACT): words for name, words in data["spared"].items()}
        return data


def _with_evidence(data: object) -> object:
    """Return what an older file says of a backend, with its evidence as a field and not in its name."""
    if not (isinstance(data, dict) and isinstance(data.get("backend"), str)):
        return data
    reads = data["backend"].endswith(CONTRACT) or bool(data.get("contract_only"))
    return {**data, "backend": data["backend"].removesuffix(CONTRACT), "evidence": "contract" if reads else "kernel"}


def begun_receipt(started: str, python: str) -> Receipt:
    """Return what stands in a receipt's place until its run ends: red, and with nothing in it that a run must find out.

    ``started`` is the time in ISO 8601, ``python`` the version.
    """
    return Receipt(
        state="begun",
        git_sha=None,
        platform=PlatformRecord(
            device="unknown", sm=None, cuda=None, driver=None, python=python,
            torch=None, triton=None, flashinfer=None, flashinfer_cubin=None,
        ),
        policy=None,
        profile="unknown",
        seed=0,
        started=started,
        seconds=0.0,
        cells=(),
        complaints=(UNFINISHED,),
    )  # fmt: skip


def record_platform(platform: Platform, python: str) -> PlatformRecord:
    """Return what a receipt says of ``platform``, under the Python version ``python``."""
    packages = platform.packages
    return PlatformRecord(
        device=platform.device,
        sm=None if platform.sm is None else platform.sm_text,
        cuda=platform.cuda,
        driver=platform.driver,
        python=python,
        torch=packages.get("torch"),
        triton=packages.get("triton"),
        flashinfer=packages.get("flashinfer-python"),
        flashinfer_cubin=packages.get("flashinfer-cubin"),
        simulated=platform.simulated,
    )


def recorded_platform(record: PlatformRecord) -> Platform:
    """Return the platform that ``record`` was made of."""
    versions = {
        "torch": record.torch,
        "triton": record.triton,
        "flashinfer-python": record.flashinfer,
        "flashinfer-cubin": record.flashinfer_cubin,
    }
    return Platform(
        device=record.device,
        sm=None if record.sm is None else parse_sm(record.sm),
        cuda=record.cuda,
        driver=record.driver,
        packages={name: version for name, version in versions.items() if version is not None},
        simulated=record.simulated,
    )
