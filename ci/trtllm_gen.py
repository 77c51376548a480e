"""Hold attnconf's answers about trtllm-gen kernels against FlashInfer's own lists and its own compiled selector.

``lists`` downloads the flashinfer-cubin of each shipped list, verifies its checksums, and compares the derived list
with the shipped one (``--write``: writes it). ``selectors`` downloads a flashinfer-python of each generation of the
selector, builds its fmhaKernels.cuh with nvcc over its list, asks it random questions, and compares every answer, names
included. ``grid`` records what the compiled selector of 0.6.13 answers to the grid of the tests. Without a GPU; about
2 GB of downloads, which are kept in the folder.
"""

from __future__ import annotations

import argparse
import hashlib
import lzma
import random
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.version import Version

from attnconf.backends.flashinfer.trtllm_gen import derived, installed, lists
from attnconf.backends.flashinfer.trtllm_gen.compiled.program import ask, build
from attnconf.backends.flashinfer.trtllm_gen.metainfo import read_rows
from attnconf.backends.flashinfer.trtllm_gen.prediction import MULTIPROCESSORS, Listed, predict
from attnconf.backends.flashinfer.trtllm_gen.question import Question
from attnconf.backends.flashinfer.trtllm_gen.releases import release_of
from conformance.tests.support import selector_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.backends.flashinfer.trtllm_gen.lists import KernelList

GENERATIONS = ("0.6.10.post1", "0.6.11", "0.6.13", "0.6.14", "0.6.16")
"""One release of each generation of the selector that attnconf models."""

_DTYPES = (
    ("BF16", "BF16", "BF16"),
    ("FP16", "FP16", "FP16"),
    ("BF16", "E4M3", "BF16"),
    ("FP16", "E4M3", "FP16"),
    ("E4M3", "E4M3", "BF16"),
    ("E4M3", "E4M3", "FP16"),
    ("E4M3", "E4M3", "E4M3"),
)
_SHOWN = 5


def main(argv: Sequence[str] | None = None) -> int:
    """Do what is asked for; return 1 where something differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("lists", "selectors", "grid"))
    parser.add_argument("--folder", type=Path, default=Path("build/trtllm_gen"), help="where downloads are kept")
    parser.add_argument("--questions", type=int, default=20_000, help="random questions of each selector (20000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nvcc", default="nvcc")
    parser.add_argument("--write", action="store_true", help="write the derived lists that are shipped")
    arguments = parser.parse_args(argv)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if arguments.what == "lists":
        return max(_check_list(kernels, arguments.folder, write=arguments.write) for kernels in lists.SHIPPED)
    if arguments.what == "grid":
        return _record_grid(arguments.folder, arguments.nvcc)
    return max(
        _check_selector(version, arguments.folder, arguments.nvcc, arguments.questions, arguments.seed)
        for version in GENERATIONS
    )


def _check_list(kernels: KernelList, folder: Path, *, write: bool) -> int:
    found = _list(kernels, folder)
    content = derived.derive(read_rows(installed.verified(found, kernels), str(found / lists.HEADER)), kernels)
    digest = hashlib.sha256(lzma.decompress(content)).hexdigest()
    if write:
        derived.path_of(kernels).write_bytes(content)
    same = digest == kernels.derived
    print(f"list {kernels.short}: {len(content):,} bytes, text {digest}, {'as shipped' if same else 'NOT AS SHIPPED'}")
    return 0 if same else 1


def _check_selector(version: str, folder: Path, nvcc: str, count: int, seed: int) -> int:
    program = _program(version, folder, nvcc)
    wrong, listed = [], 0
    for sm in MULTIPROCESSORS:
        questions = list(_questions(count // 2, random.Random(f"{seed} {sm}"), MULTIPROCESSORS[sm]))  # noqa: S311
        for question, own in zip(questions, ask(program, questions, sm), strict=True):
            answer = predict(question, Version(version), sm)
            listed += isinstance(own, Listed)
            if answer != own and (isinstance(answer, Listed) or isinstance(own, Listed)):
                wrong.append((sm, question, own, answer))
    print(f"selector {version}: {count // 2 * 2:,} questions, {listed:,} with a kernel, {len(wrong)} differ")
    for one in wrong[:_SHOWN]:
        print(*one, sep="\n  ")
    return 1 if wrong else 0


def _record_grid(folder: Path, nvcc: str) -> int:
    program = _program(selector_grid.RELEASE, folder, nvcc)
    answers = ask(program, list(selector_grid.questions()), (10, 0))
    selector_grid.write([one.names if isinstance(one, Listed) else () for one in answers])
    print(selector_grid.RECORDED)
    return 0


def _program(version: str, folder: Path, nvcc: str) -> Path:
    """Return the compiled selector of one release, built once."""
    program = folder / f"questions-{version}"
    if not program.exists():
        release = release_of(Version(version))
        if release is None:
            sys.exit(f"no release {version}")
        package = folder / f"flashinfer-{version}"
        if not package.exists():
            with zipfile.ZipFile(_wheel("flashinfer-python", version, folder)) as wheel:
                wheel.extractall(package)
        installed.verified(_list(release.kernels, folder), release.kernels)
        build(package / "flashinfer", _list(release.kernels, folder), program, nvcc)
    return program.resolve()


def _list(kernels: KernelList, folder: Path) -> Path:
    """Return the folder of a list, with its checksums and nothing else of its wheel."""
    found = folder / "cubins" / kernels.folder
    if not (found / lists.HEADER).exists():
        with zipfile.ZipFile(_wheel(lists.CUBIN_PACKAGE, kernels.wheel, folder)) as wheel:
            for name in (lists.CHECKSUMS, lists.HEADER):
                target = found / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(wheel.read(f"flashinfer_cubin/cubins/{kernels.folder}/{name}"))
    return found


def _wheel(package: str, version: str, folder: Path) -> Path:
    stem = f"{package.replace('-', '_')}-{version}-"
    if not list(folder.glob(f"{stem}*.whl")):
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
        subprocess.run([*command, f"{package}=={version}"], check=True)  # noqa: S603 - pip, for a pinned release
    return next(folder.glob(f"{stem}*.whl"))


def _questions(count: int, rng: random.Random, multiprocessors: Sequence[int]) -> list[Question]:
    found = []
    for _ in range(count):
        context = rng.random() < 1 / 3
        q_dtype, kv_dtype, o_dtype = rng.choice(_DTYPES)
        kv_heads = rng.choice((1, 2, 4, 8))
        q_len = rng.choice((5, 100, 2048) if context else (1, 1, 2, 3, 4, 5, 8, 16))
        found.append(
            Question(
                context=context,
                q_dtype=q_dtype,
                kv_dtype=kv_dtype,
                o_dtype=o_dtype,
                num_qo_heads=kv_heads * rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 16, 32)),
                num_kv_heads=kv_heads,
                head_dim=rng.choice((64, 80, 96, 128, 192, 256, 256, 512, 512)),
                page_size=rng.choice((8, 16, 32, 64, 128, 256, 1024)),
                num_requests=rng.choice((1, 2, 8, 64, 256)),
                max_q_len=q_len,
                max_kv_len=q_len + rng.choice((0, 5, 40, 100, 127, 128, 500, 1000, 4000, 40_000)),
                window_left=rng.choice((-1, -1, 0, 15, 127, 1023)),
                multiprocessors=rng.choice(multiprocessors),
            )
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
