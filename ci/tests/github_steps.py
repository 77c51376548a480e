"""Run steps of workflows and actions as GitHub's runner does: bash, the YAML's env, files for outputs and summaries."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTIONS = (ROOT / "ci" / "action.yml", ROOT / "ci" / "install" / "action.yml")

_EXPRESSION = re.compile(r"\$\{\{\s*(.*?)\s*\}\}")
PYTHONPATH = ":".join(str(ROOT / name) for name in ("conformance", "pytest_plugin", "fixtures"))


def load(path: Path) -> dict[str, Any]:
    """Return a YAML file; the key ``on``, which YAML 1.1 reads as True, is called ``on`` again."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return {"on" if key is True else key: value for key, value in data.items()}


def evaluate(text: object, values: Mapping[str, str]) -> str:
    """Return ``text`` with its expressions replaced by ``values``; one that is not among them is a KeyError."""
    return _EXPRESSION.sub(lambda match: values[match[1]], str(text))


def named(steps: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """Return the step of that name."""
    (found,) = [step for step in steps if step.get("name") == name]
    return found


@dataclass(frozen=True)
class Done:
    """How a step ended, and what it left for the runner."""

    status: int
    log: str
    outputs: dict[str, str]
    summary: str


@dataclass(frozen=True)
class Machine:
    """A runner: ``checkout`` is its working directory; ``files``, outside it, has its programs and command files."""

    checkout: Path
    files: Path

    def __post_init__(self) -> None:
        """Make programs of the names that steps call, from this environment's interpreter."""
        self.program("attnconf", f'exec {shlex.quote(sys.executable)} -P -m attnconf "$@"')
        self.program("python3", f'exec {shlex.quote(sys.executable)} "$@"')

    def program(self, name: str, script: str) -> None:
        """Put a program in front of the machine's PATH."""
        path = self.files / "bin" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{script}\n", encoding="utf-8")
        path.chmod(0o755)

    def run(self, step: Mapping[str, Any], values: Mapping[str, str], env: Mapping[str, object] | None = None) -> Done:
        """Run a ``run`` step; ``env`` is that of its workflow, ``values`` are those of the expressions in either."""
        texts = {name: evaluate(text, values) for name, text in {**(env or {}), **step.get("env", {})}.items()}
        output, summary = self.files / "output", self.files / "summary"
        for path in (output, summary):
            path.write_text("", encoding="utf-8")
        kept = {name: text for name, text in os.environ.items() if not name.startswith(("PYTEST_", "GITHUB_", "COV_"))}
        done = subprocess.run(  # noqa: S603 - the project's own scripts
            ["/bin/bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]],
            cwd=self.checkout,
            env={
                **kept,
                "PATH": f"{self.files / 'bin'}:{kept['PATH']}",
                "PYTHONPATH": PYTHONPATH,
                "GITHUB_ACTION_PATH": str(ROOT / "ci" / "install"),
                "GITHUB_OUTPUT": str(output),
                "GITHUB_REPOSITORY": "engine/engine",
                "GITHUB_STEP_SUMMARY": str(summary),
                **texts,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=300,
        )
        pairs = (line.partition("=") for line in output.read_text(encoding="utf-8").splitlines())
        outputs = {name: text for name, _, text in pairs}
        return Done(done.returncode, done.stdout, outputs, summary.read_text(encoding="utf-8"))
