"""Program: build FlashInfer's selector, and ask it."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.backends.flashinfer.trtllm_gen.prediction import Absent, Listed
from attnconf.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.backends.flashinfer.trtllm_gen.prediction import Answer
    from attnconf.backends.flashinfer.trtllm_gen.question import Question

SOURCE = Path(__file__).parent / "questions.cu"
SECONDS = 1200
"""Within which nvcc must be done; it takes about one minute."""

_INCLUDES = (
    "include",
    "csrc",
    "cutlass/include",
    "cccl/cub",
    "cccl/libcudacxx/include",
    "cccl/thrust",
    "spdlog/include",
)
_ONE_KV_DTYPE = "Data_type dtypeKv,"
"""In the selectors of releases that know one dtype of K and V together."""


def build(package: Path, kernels: Path, target: Path, nvcc: str = "nvcc") -> None:
    """Build the selector of the flashinfer in ``package`` over the list in the folder ``kernels``, as ``target``.

    Raises ``BackendUnavailableError`` with what nvcc said.
    """
    data = package / "data"
    selector = data / "include" / "flashinfer" / "trtllm" / "fmha" / "fmhaKernels.cuh"
    flags = ["-DATTNCONF_ONE_KV_DTYPE"] if _ONE_KV_DTYPE in selector.read_text() else []
    flags += [f"-I{data / folder}" for folder in _INCLUDES]
    # Where the kernels themselves would be loaded from; none is.
    flags += ['-DTLLM_GEN_FMHA_CUBIN_PATH="none"', '-DTLLM_GEN_FMHA_METAINFO_HASH="none"']
    flags.append(f"-L{Path(nvcc).resolve().parent.parent / 'lib'}")  # where nvcc's own wheels have the runtime
    command = [nvcc, "-std=c++17", "-O1", "-w", "-arch=sm_100a", *flags, f"-I{kernels / 'include'}"]
    try:
        done = subprocess.run(  # noqa: S603 - nvcc, with paths of ours
            [*command, str(SOURCE), "-o", str(target)], capture_output=True, text=True, check=False, timeout=SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BackendUnavailableError(f"{nvcc} does not build FlashInfer's selector: {error}") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        raise BackendUnavailableError(f"{nvcc} does not build FlashInfer's selector: {next(iter(lines), done.stderr)}")


def ask(program: Path, questions: Sequence[Question], sm: tuple[int, int]) -> list[Answer]:
    """Return what FlashInfer's own code launches for each question, or what it says when it refuses.

    Raises ``BackendUnavailableError`` when the program does not answer every question.
    """
    lines = [line for one in questions for line in _lines(one, sm)]
    done = subprocess.run([str(program)], input="\n".join(lines), capture_output=True, text=True, check=False)  # noqa: S603
    answers = done.stdout.splitlines()
    if done.returncode or len(answers) != len(lines):
        given = f"status {done.returncode}, {len(answers)} of {len(lines)} answers: {done.stderr[:200]}"
        raise BackendUnavailableError(f"FlashInfer's selector ended early: {given}")
    pairs = zip(answers[::2], answers[1::2], strict=True)
    return [_answer(*pair) for pair in pairs]


def _answer(fitting: str, crowded: str) -> Answer:
    """Return the kernels on a GPU on which all clusters fit at once, and on one on which none do."""
    refused = next((answer[2:] for answer in (fitting, crowded) if not answer.startswith("= ")), None)
    return Listed(tuple(dict.fromkeys((fitting[2:], crowded[2:])))) if refused is None else Absent(refused)


def _lines(one: Question, sm: tuple[int, int]) -> tuple[str, str]:
    words = (
        sm[0] * 10 + sm[1], int(one.context), one.q_dtype, one.kv_dtype, one.o_dtype, one.num_qo_heads,
        one.num_kv_heads, one.head_dim, one.page_size, one.num_requests, one.max_q_len, one.max_kv_len,
        one.window_left, one.multiprocessors,
    )  # fmt: skip
    line = " ".join(map(str, words))
    return f"{line} 1", f"{line} 0"
