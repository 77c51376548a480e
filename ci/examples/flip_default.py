"""A branch makes trtllm_mha the default of Gemma 4 on SM 10.x: what the gate says, end to end, on any CPU.

    python ci/examples/flip_default.py

It makes a small git repository in a temporary folder, whose branch changes the default, and runs the commands that a CI
would run. No SM 10.x machine is at hand, so the receipts are simulated: their counts were recorded with the triton
backend on an H200, and are put under trtllm_mha's name. They are labelled as simulated, a real gate refuses them, and
the rehearsal that accepts them exits with 13, never with 0.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf import FleetPlan, Provider, Receipt, __version__, record_platform

if TYPE_CHECKING:
    from attnconf import Cell

ROOT = Path(__file__).resolve().parents[2]
POLICY = ROOT / "fixtures" / "attnconf_fixtures" / "policies" / "sglang-gemma4.toml"
RECORDED = ROOT / "fixtures" / "evidence" / "2026-11-28-h200-gate-triton.json"
NEW_DEFAULT = re.compile(r'\[\[(rules|claims)\]\]\n(name|rule) = "sm100"\n.*?(?=\n\[\[|\Z)', re.DOTALL)
SHIPPED = Provider(
    distribution="attnconf", version=__version__, entry_point="attnconf.backends.flashinfer.trtllm_mha:make"
)
VERIFY = "attnconf verify --policy policy.toml --fleet fleet.toml --plan ../plan.json --diff main"
REHEARSE = f"{VERIFY} --rehearse-with-simulated-receipts"


def main() -> int:
    """Tell the story; return 0 when each command ended as it must, else 1."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "repository"
        make_branch(folder)
        story = Story(folder)
        story.step("the branch flips the default: what must be proven, and where?")
        story.run("attnconf plan --policy policy.toml --fleet fleet.toml --diff main -o ../plan.json", 0)
        plan = FleetPlan.read(folder.parent / "plan.json")
        story.step("nothing was run on SM 10.x: the gate is red, and names the runner that it needs")
        story.run(VERIFY, 10)
        recorded = Receipt.read(RECORDED)
        whole = [simulate(plan, job.name, recorded.cells) for job in plan.jobs]
        receipts = " ".join(write(folder, one) for one in whole)
        story.step("simulated receipts are refused by a real gate")
        story.run(f"{VERIFY} {receipts}", 10)
        story.step("in a rehearsal they stand for real ones: all is proven, and the exit status is 13, not 0")
        story.run(f"{REHEARSE} {receipts}", 13)
        cells = tuple(cell for cell in recorded.cells if not cell.layer_kind.endswith("-shared"))
        receipts = " ".join(write(folder, simulate(plan, job.name, cells)) for job in plan.jobs)
        story.step("receipts without the cells of shared KV: red")
        story.run(f"{REHEARSE} {receipts}", 10)
        return story.end()


def make_branch(folder: Path) -> None:
    """Make the repository: on main triton is the default everywhere, on the branch not on SM 10.x."""
    text = POLICY.read_text(encoding="utf-8")
    folder.mkdir()
    (folder / "fleet.toml").write_bytes((ROOT / "ci" / "fleet.toml").read_bytes())
    git(folder, "init", "-q", "-b", "main")
    for name, policy in (("main", NEW_DEFAULT.sub("", text)), ("flip", text)):
        (folder / "policy.toml").write_text(policy, encoding="utf-8")
        if name != "main":
            git(folder, "checkout", "-q", "-b", name)
        git(folder, "add", "--all")
        git(folder, "commit", "-qm", f"the default on {name}")


def git(folder: Path, *arguments: str) -> None:
    """Run git in ``folder``."""
    command = ["git", "-C", str(folder), "-c", "user.name=example", "-c", "user.email=example@example.org", *arguments]
    subprocess.run(command, check=True)  # noqa: S603 - fixed arguments


def simulate(plan: FleetPlan, job: str, cells: tuple[Cell, ...]) -> Receipt:
    """Return a receipt of ``job``, labelled simulated, with recorded counts of triton under trtllm_mha's name."""
    asked = plan.job_named(job)
    platform = plan.fleet.platform(plan.fleet.by_name[asked.runner]).model_copy(update={"simulated": True})
    found = [cell for cell in cells if cell.backend == "triton" and cell.model.partition("@")[0] in asked.models]
    return Receipt(
        git_sha=plan.git_sha,
        platform=record_platform(platform, f"{sys.version_info.major}.{sys.version_info.minor}"),
        policy=plan.policy,
        plan=plan.identity,
        job=job,
        profile="smoke",
        seed=0,
        started=datetime.now(UTC).isoformat(),
        seconds=0,
        providers={"trtllm_mha": SHIPPED},
        cells=tuple(cell.model_copy(update={"backend": "trtllm_mha"}) for cell in found),
        exit_status=0,
    )


def write(folder: Path, receipt: Receipt) -> str:
    """Write the receipt beside the repository; return its path from there."""
    receipt.write(folder.parent / f"{receipt.job}.json")
    return f"../{receipt.job}.json"


class Story:
    """Commands, what they print, and whether each ended as told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps = 0
        self.wrong = 0

    def step(self, text: str) -> None:
        """Say what comes."""
        self.steps += 1
        print(f"\n{self.steps}. {text}", flush=True)

    def run(self, command: str, status: int) -> None:
        """Run an ``attnconf`` command of this environment, and hold its exit status against ``status``."""
        print(f"   $ {command}", flush=True)
        call = [sys.executable, "-m", "attnconf"]
        done = subprocess.run([*call, *shlex.split(command)[1:]], cwd=self.folder, check=False)  # noqa: S603 - no shell
        self.wrong += done.returncode != status
        print(
            f"   exit status {done.returncode}" + ("" if done.returncode == status else f", not {status}"), flush=True
        )

    def end(self) -> int:
        """Return the script's own exit status."""
        print(f"\n{self.wrong} of {self.steps} steps ended otherwise than they must")
        return min(self.wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
