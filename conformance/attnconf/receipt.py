"""Receipt: what a run proves, as a file."""

from __future__ import annotations

import json
import re
import subprocess
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

import attnconf
from attnconf.canonical import Value
from attnconf.cells import Cell, merge_cells, tally
from attnconf.failed_case import FailedCase

if TYPE_CHECKING:
    from pathlib import Path

    from attnconf.platforms import Platform

__all__ = [
    "Cell",
    "FailedCase",
    "PlatformRecord",
    "PolicyRef",
    "Receipt",
    "git_sha",
    "merge_cells",
    "record_platform",
    "tally",
]


class PlatformRecord(Value):
    """Where a run happened. ``sm`` is ``"10.0"``, None without a GPU; the others are version texts, None if missing."""

    device: str
    sm: Annotated[str, Field(pattern=r"^\d{1,2}\.\d$")] | None
    cuda: str | None
    driver: str | None
    python: str
    torch: str | None
    triton: str | None
    flashinfer: str | None
    flashinfer_cubin: str | None


class PolicyRef(Value):
    """The policy that a run was held to: its name, and the digest of its content."""

    name: str
    digest: str


class Receipt(Value):
    """What one run, or several merged ones, executed and found.

    ``git_sha`` is that of the tested tree, ending in ``-dirty`` when it had changes, None outside a repository.
    ``started`` is an ISO 8601 time with its offset, ``seconds`` the wall time of the run. ``failures`` are the smallest
    failing cases of its tests. A file of the schema ``attnconf.receipt/1`` has neither these nor histograms, and is
    read as one of the second schema.
    """

    schema_id: Literal["attnconf.receipt/2"] = Field(default="attnconf.receipt/2", alias="schema")
    attnconf: str = attnconf.__version__
    git_sha: str | None
    platform: PlatformRecord
    policy: PolicyRef | None
    profile: str
    seed: Annotated[int, Field(ge=0)]
    started: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$")]
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    cells: tuple[Cell, ...]
    failures: tuple[FailedCase, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _upgrade(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("schema") == "attnconf.receipt/1":
            return {**data, "schema": "attnconf.receipt/2"}
        return data

    def to_data(self) -> dict[str, Any]:
        """Return plain JSON data with every field, defaults too: a receipt is read by other programs."""
        return self.model_dump(mode="json", by_alias=True)

    def write(self, path: Path) -> None:
        """Write the receipt as JSON, in the place of what was there. Raises ``OSError``."""
        text = json.dumps(self.to_data(), indent=1, ensure_ascii=True, allow_nan=False)
        temporary = path.with_name(path.name + ".part")
        temporary.write_text(text + "\n", encoding="utf-8")
        temporary.replace(path)


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
    )


def git_sha(folder: Path) -> str | None:
    """Return the commit of the repository around ``folder``, with ``-dirty`` if tracked files differ, or None."""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603 - no shell
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = done.stdout.strip()
    return text if done.returncode == 0 and re.fullmatch(r"[0-9a-f]{40}(-dirty)?", text) else None
