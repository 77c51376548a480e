"""FlashInfer's own selector as a program: what is asked, what comes back, and what is missing for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from packaging.version import Version

from attnconf.backends.flashinfer.trtllm_gen.compiled import installed_selector
from attnconf.backends.flashinfer.trtllm_gen.compiled.installed_selector import installed_answers
from attnconf.backends.flashinfer.trtllm_gen.compiled.program import ask, build
from attnconf.backends.flashinfer.trtllm_gen.prediction import Absent, Listed
from attnconf.errors import BackendUnavailableError
from conformance.tests.support.launches import a_launch

if TYPE_CHECKING:
    from pathlib import Path

SPOKEN = """
import sys
for line in sys.stdin:
    words = line.split()
    assert words[:5] == ["103", "0", "BF16", "BF16", "BF16"], words
    if words[7] == "512":
        print("! Missing TRTLLM-GEN kernel: qkvLayout=2")
    else:
        print("= fmhaCluster" if words[-1] == "1" else "= fmhaPlain")
"""


def a_program(folder: Path, text: str) -> Path:
    program = folder / "questions"
    program.write_text(f"#!{sys.executable}\n{text}")
    program.chmod(0o755)
    return program


def test_each_question_is_asked_for_a_gpu_with_room_for_clusters_and_for_one_without(tmp_path: Path) -> None:
    questions = [a_launch(), a_launch(head_dim=512)]
    assert ask(a_program(tmp_path, SPOKEN), questions, (10, 3)) == [
        Listed(("fmhaCluster", "fmhaPlain")),
        Absent("Missing TRTLLM-GEN kernel: qkvLayout=2"),
    ]


def test_a_program_that_ends_early_is_no_answer(tmp_path: Path) -> None:
    program = a_program(tmp_path, "print('= fmhaA')\nraise SystemExit(3)\n")
    with pytest.raises(BackendUnavailableError, match="status 3, 1 of 2 answers"):
        ask(program, [a_launch()], (10, 0))


def test_what_nvcc_says_is_said(tmp_path: Path) -> None:
    selector = tmp_path / "data/include/flashinfer/trtllm/fmha/fmhaKernels.cuh"
    selector.parent.mkdir(parents=True)
    selector.write_text("Data_type dtypeKv, Data_type dtypeOut")
    nvcc = a_program(tmp_path, "import sys\nsys.stderr.write('x.cu(3): error: no such type\\n')\nraise SystemExit(1)\n")
    with pytest.raises(BackendUnavailableError, match=r"does not build FlashInfer's selector: x\.cu\(3\): error"):
        build(tmp_path, tmp_path, tmp_path / "out", str(nvcc))
    with pytest.raises(BackendUnavailableError, match="does not build"):
        build(tmp_path, tmp_path, tmp_path / "out", str(tmp_path / "no-nvcc"))


def test_what_is_missing_is_said_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed_selector, "selector_path", lambda: tmp_path / "fmhaKernels.cuh")
    monkeypatch.setattr(installed_selector, "refuse_other_selector", lambda *_: None)
    monkeypatch.setattr(installed_selector, "find_list", lambda _: None)
    with pytest.raises(BackendUnavailableError, match=r"the list f5008559/.* remedy: flashinfer download-kernels"):
        installed_answers([a_launch()], Version("0.7.4"), (10, 0), tmp_path)
    with pytest.raises(BackendUnavailableError, match=r"flashinfer-python 99\.0 is not installed"):
        installed_answers([a_launch()], Version("99.0"), (10, 0), tmp_path)
