"""The installed FlashInfer's own selector as an answer: for releases of which attnconf has no model."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from attnconf.backends.flashinfer.package import PACKAGE
from attnconf.backends.flashinfer.trtllm_gen.compiled.program import ask, build
from attnconf.backends.flashinfer.trtllm_gen.installed import (
    find_list,
    folders,
    refuse_other_selector,
    selector_path,
    verified,
)
from attnconf.backends.flashinfer.trtllm_gen.lists import HEADER
from attnconf.backends.flashinfer.trtllm_gen.releases import release_of
from attnconf.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from packaging.version import Version

    from attnconf.backends.flashinfer.trtllm_gen.prediction import Answer
    from attnconf.backends.flashinfer.trtllm_gen.question import Question


def installed_answers(
    questions: Iterable[Question], version: Version, sm: tuple[int, int], folder: Path
) -> Callable[[Question], Answer]:
    """Return what the selector of the installed FlashInfer ``version`` answers to each of ``questions``.

    It is built by nvcc into ``folder``, once. Raises ``BackendUnavailableError`` with what is missing for that, and
    ``InvalidInputError`` for a list or a selector that is not the release's own.
    """
    release, selector = release_of(version), selector_path()
    if release is None or selector is None:
        raise BackendUnavailableError(f"{PACKAGE} {version} is not installed, or attnconf has not read it")
    refuse_other_selector(release, selector)
    kernels = find_list(release.kernels)
    if kernels is None:
        looked = ", ".join(map(str, folders()))
        message = f"the list {release.kernels.short}/{HEADER} is in none of {looked}; remedy: {release.kernels.remedy}"
        raise BackendUnavailableError(message)
    verified(kernels, release.kernels)
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        raise BackendUnavailableError("no nvcc on PATH; remedy: pip install nvidia-cuda-nvcc, and its bin on PATH")
    program = folder / f"questions-{version}"
    if not program.exists():
        folder.mkdir(parents=True, exist_ok=True)
        build(selector.parents[5], kernels, program, nvcc)
    asked = list(dict.fromkeys(questions))
    return dict(zip(asked, ask(program.resolve(), asked, sm), strict=True)).__getitem__
