"""The example package is built and installed away from this tree, and judged by its entry point."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from attnconf.cases.case import Case, Layer
from attnconf.cases.request import Request
from attnconf.gate.receipt import Receipt

PACKAGE = Path(__file__).parents[1] / "examples" / "third_party"
MODULE = "dense_attention.py"
SUITE = ("pytest", "-p", "attnconf", "-p", "no:cacheprovider", "--pyargs", "attnconf.suite", "--attnconf-backend=dense")
WINDOW = "window = geometry.window_left if"


def run(site: Path, folder: Path, *module: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m MODULE`` in ``folder`` with what is installed in ``site``; ``dense`` is to see no GPU."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    path = os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    return subprocess.run(  # noqa: S603 - fixed arguments
        [sys.executable, "-m", *module],
        cwd=folder,
        env={**environment, "PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which pip installed the package's wheel, built by the build backend of this environment."""
    place = tmp_path_factory.mktemp("third-party")
    offline = ("--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check")
    done = run(place / "site", place, "pip", "install", *offline, "--target", str(place / "site"), str(PACKAGE))
    assert done.returncode == 0, done.stdout + done.stderr
    return place / "site"


def test_doctor_finds_it_and_names_its_kernel(site: Path, tmp_path: Path) -> None:
    done = run(site, tmp_path, "attnconf", "doctor", "--json")
    assert done.returncode == 0, done.stderr
    (found,) = (one for one in json.loads(done.stdout)["backends"] if one["name"] == "dense")
    assert (found["status"], found["detail"]) == ("works", "scaled_dot_product_attention[float32]")


def test_the_suite_judges_it_by_its_kernel(site: Path, tmp_path: Path) -> None:
    """On a model that it can serve, on one whose sinks it declares not to, and by what it must then refuse."""
    models = ("--attnconf-model=gemma4-e2b", "--attnconf-model=gpt-oss-20b")
    asked = ("--attnconf-profile=smoke", *models, "--attnconf-receipt=r.json", "-k", "decode or refusal")
    done = run(site, tmp_path, *SUITE, *asked)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = Receipt.read(tmp_path / "r.json").cells
    assert {cell.backend for cell in cells} == {"dense"}
    proven = {(cell.model.partition("@")[0], cell.layer_kind) for cell in cells if cell.passed}
    assert proven >= {("gemma4-e2b", kind) for kind in ("full", "full-shared", "sliding", "sliding-shared")}
    declined = {cell.model.partition("@")[0]: cell.reasons for cell in cells if cell.unsupported and not cell.executed}
    assert "unsupported: dense has no sinks" in declined["gpt-oss-20b"]
    assert not any(cell.broken or cell.not_run or cell.contract_only for cell in cells)


def test_with_one_key_too_many_it_is_caught(site: Path, tmp_path: Path) -> None:
    broken = tmp_path / "site"
    shutil.copytree(site, broken)
    source = (broken / MODULE).read_text(encoding="utf-8")
    assert source.count(WINDOW) == 1
    (broken / MODULE).write_text(source.replace(WINDOW, "window = geometry.window_left + 1 if"), encoding="utf-8")
    layer = Layer(kind="sliding", window_left=7, num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25)
    case = Case(mode="decode", layers=(layer,), requests=(Request(prefix_len=20),))
    (tmp_path / "case.json").write_text(json.dumps(case.to_data()), encoding="utf-8")
    done = run(broken, tmp_path, *SUITE, "--attnconf-profile=replay", "--attnconf-replay=case.json")
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"dense fails case {case.id}" in done.stdout
    assert "clause 2 (window)" in done.stdout
