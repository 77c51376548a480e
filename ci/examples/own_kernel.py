"""A repository of your own gates its own kernel, on any CPU: red while the kernel is wrong, green once it is right.

    python ci/examples/own_kernel.py

The kernel stands in a ``conftest.py``, the policy makes it the default of Gemma 4 and asks for one layer kind in two
modes. It reads one key too many of each window; the gate finds that, a commit mends it, and the gate opens.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

CONFTEST = '''\
from dataclasses import replace

import pytest
from attnconf import ReferenceBackend

KEYS_TOO_MANY = 1


class Mine(ReferenceBackend):
    """Paged PyTorch that passes window_left on to a kernel of its own."""

    name = "mine"

    def prepare(self, batch):
        return super().prepare(replace(batch, layers=tuple(map(as_the_kernel_takes_it, batch.layers))))


def as_the_kernel_takes_it(layer):
    window = layer.geometry.window_left
    taken = layer.geometry.model_copy(update={"window_left": window + KEYS_TOO_MANY if window >= 0 else -1})
    return replace(layer, geometry=taken)


@pytest.hookimpl(optionalhook=True)
def pytest_attnconf_register_backends(registry):
    registry.register("mine", lambda platform: Mine())
'''
POLICY = """\
schema = "attnconf.policy/1"
name = "own-kernel"
provenance = { engine = "ours", version = "1", file = "ours/attention.py" }
backends = { mine = {} }

[[rules]]
name = "everywhere"
architectures = ["Gemma4ForCausalLM"]
backend = "mine"

[[required]]
architectures = ["Gemma4ForCausalLM"]
models = ["gemma4-e2b"]
layer_kinds = ["sliding"]
modes = ["decode", "extend"]
effective = { sliding = ["window"] }
"""
FLEET = """\
schema = "attnconf.fleet/1"

[[runners]]
name = "cpu"
labels = ["ubuntu-24.04"]
"""
PLAN = "attnconf plan --policy policy.toml --fleet fleet.toml -o ../plan.json"
RUN = (
    "pytest -p attnconf --pyargs attnconf.suite --attnconf-profile=smoke --attnconf-backend=mine"
    " --attnconf-model=gemma4-e2b --attnconf-family=decode --attnconf-family=extend --attnconf-policy=policy.toml"
    " --attnconf-plan=../plan.json --attnconf-job=cpu --attnconf-receipt=../receipt.json"
    " --attnconf-failures=../failures"
)
VERIFY = "attnconf verify --policy policy.toml --fleet fleet.toml --plan ../plan.json ../receipt.json"


def main() -> int:
    """Tell the story; return 0 when each command ended as it must, else 1."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "repository"
        folder.mkdir()
        story = Story(folder)
        story.commit("a kernel that reads one key too many", CONFTEST)
        story.step("what must be proven, and where?")
        story.run(PLAN, 0)
        story.step("the suite finds the key, and the gate stays shut")
        story.run(RUN, 1)
        story.run(VERIFY, 10)
        story.commit("the kernel takes window_left as it is", CONFTEST.replace("TOO_MANY = 1", "TOO_MANY = 0"))
        story.step("mended: planned anew for the new commit, proven, and the gate opens")
        story.run(PLAN, 0)
        story.run(RUN, 0)
        story.run(VERIFY, 0)
        return story.end()


class Story:
    """Commands, what they print, and whether each ended as told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.steps = 0
        self.wrong = 0
        self._git("init", "-q", "-b", "main")

    def commit(self, message: str, conftest: str) -> None:
        """Commit the policy, the fleet and ``conftest``."""
        for name, text in (("conftest.py", conftest), ("policy.toml", POLICY), ("fleet.toml", FLEET)):
            (self.folder / name).write_text(text, encoding="utf-8")
        (self.folder / ".gitignore").write_text("__pycache__/\n.pytest_cache/\n", encoding="utf-8")
        self._git("add", "--all")
        self._git("commit", "-qm", message)

    def step(self, text: str) -> None:
        """Say what comes."""
        self.steps += 1
        print(f"\n{self.steps}. {text}", flush=True)

    def run(self, command: str, status: int) -> None:
        """Run a command of this environment, and hold its exit status against ``status``."""
        print(f"   $ {command}", flush=True)
        program, *arguments = shlex.split(command)
        call = [sys.executable, "-m", program, *arguments]
        done = subprocess.run(call, cwd=self.folder, check=False)  # noqa: S603 - no shell
        self.wrong += done.returncode != status
        print(
            f"   exit status {done.returncode}" + ("" if done.returncode == status else f", not {status}"), flush=True
        )

    def end(self) -> int:
        """Return the script's own exit status."""
        print(f"\n{self.wrong} commands ended otherwise than they must")
        return min(self.wrong, 1)

    def _git(self, *arguments: str) -> None:
        command = ["git", "-C", str(self.folder), "-c", "user.name=example", "-c", "user.email=example@example.org"]
        subprocess.run([*command, *arguments], check=True)  # noqa: S603 - fixed arguments


if __name__ == "__main__":
    sys.exit(main())
