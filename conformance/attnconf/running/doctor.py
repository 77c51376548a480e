"""Doctor: what this machine is, which backends work on it, what is missing, and the command that fixes it.

Each installed backend is examined in a process of its own, where it has ``START_SECONDS`` and ``CASE_SECONDS``: one
that hangs, exits or prints is a finding, and not the doctor's end.
"""

from __future__ import annotations

import importlib.metadata
import platform as python_platform
import shutil
from typing import TYPE_CHECKING, Literal

from packaging.version import InvalidVersion, Version

from attnconf.backends.flashinfer.package import FLOOR, REMEDY
from attnconf.backends.flashinfer.trtllm_gen.condition import cubin_remedy, faults
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.request import Request
from attnconf.errors import BackendUnavailableError
from attnconf.judging.result import Outcome
from attnconf.platforms import ENGINES, PACKAGES, Platform
from attnconf.values import Value

if TYPE_CHECKING:
    from attnconf.judging.result import LayerResult
    from attnconf.running.session import Session

Status = Literal["works", "contract", "not built", "unsupported", "unavailable", "fails"]

SAMPLE = Case(
    model="doctor",
    mode="decode",
    layers=(Layer(kind="full", num_qo_heads=8, num_kv_heads=1, head_dim=128, sm_scale=0.09),),
    requests=(Request(prefix_len=40), Request(prefix_len=7)),
    paging=Paging(layout="HND"),
)
"""The case that every backend is asked: a shape that each of them has a kernel for."""

START_SECONDS = 60.0
"""How long a backend may take until it stands, once torch is imported."""

CASE_SECONDS = 300.0
"""How long ``SAMPLE`` may take: its kernel may have to be compiled."""

_TRITON_NEEDS = ("triton", "numpy")
_FLASHINFER_SERVES = ("trtllm_mha", "flashinfer_fa2", "flashinfer_fa3")
_GPU_ALONE = ("flashinfer_fa2", "flashinfer_fa3")
"""Backends that a CPU cannot even ask for their contract."""

_OPTIONAL = {
    "pytest-xdist": "the suite on several cores",
    "matplotlib": "attnconf picture",
}


class BackendFinding(Value):
    """How one registered backend did on ``SAMPLE``: ``contract`` proves its adapter, and no kernel."""

    name: str
    status: Status
    detail: str


class Missing(Value):
    """Something that is not here, the command that brings it, the backends that wait for it, and what else to know."""

    what: str
    remedy: str
    why: str = ""
    backends: tuple[str, ...] = ()


class Findings(Value):
    """Everything that ``attnconf doctor`` says."""

    attnconf: str
    python: str
    platform: Platform
    packages: dict[str, str | None]
    backends: tuple[BackendFinding, ...]
    missing: tuple[Missing, ...]

    @property
    def is_healthy(self) -> bool:
        """Whether some backend works here and none gives wrong answers."""
        status = {finding.status for finding in self.backends}
        return "fails" not in status and bool(status & {"works", "contract"})


def examine(session: Session) -> Findings:
    """Look at this machine and ask every registered backend one small case."""
    session.start_seconds = min(session.start_seconds, START_SECONDS)
    session.case_seconds = min(session.case_seconds, CASE_SECONDS)
    packages = {name: _version(name) for name in (*PACKAGES, "pytest", "hypothesis", *_OPTIONAL)}
    return Findings(
        attnconf=_version("attnconf") or "unknown",
        python=python_platform.python_version(),
        platform=session.platform,
        packages=packages,
        backends=tuple(_ask(session, name) for name in session.registry.names),
        missing=tuple(_missing(session.platform, packages, session.registry.names)),
    )


def _ask(session: Session, name: str) -> BackendFinding:
    try:
        return _finding(name, session.run(SAMPLE, name).layers[0])
    except BackendUnavailableError as error:
        return BackendFinding(name=name, status="unavailable", detail=str(error))
    finally:
        session.close()  # nobody asks it again, and its kernel library takes memory


def _finding(name: str, layer: LayerResult) -> BackendFinding:
    if layer.outcome is Outcome.PASSED:
        return BackendFinding(name=name, status="works", detail=layer.kernel)
    if layer.outcome is Outcome.CONTRACT_ONLY:
        return BackendFinding(name=name, status="contract", detail="no GPU here runs its kernels")
    if layer.outcome is Outcome.UNSUPPORTED:
        return BackendFinding(name=name, status="unsupported", detail=layer.reason)
    if layer.outcome is Outcome.NOT_RUN:
        return BackendFinding(name=name, status="not built", detail=layer.reason)
    detail = layer.reason or "; ".join(failure.summary for failure in layer.failures)
    return BackendFinding(name=name, status="fails", detail=f"{layer.outcome.value}: {detail}")


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _missing(platform: Platform, packages: dict[str, str | None], backends: tuple[str, ...]) -> list[Missing]:
    found = []
    absent = [name for name in _TRITON_NEEDS if _version(name) is None]
    if absent:
        what = " and ".join(absent)
        found.append(Missing(what=what, remedy='pip install "attnconf[triton]"', backends=("triton",)))
    for engine in ENGINES:
        waiting = tuple(name for name in backends if name.startswith(f"{engine}:"))
        if waiting and engine not in platform.packages:
            found.append(Missing(what=engine, why="in a checkout", remedy="make engines", backends=waiting))
    flashinfer, cubin = packages["flashinfer-python"], packages["flashinfer-cubin"]
    if flashinfer is None:
        remedy = f'pip install "flashinfer-python>={FLOOR}"'
        waiting = tuple(name for name in backends if name in _FLASHINFER_SERVES)
        found.append(Missing(what="flashinfer-python", remedy=remedy, backends=waiting))
    if cubin is not None and flashinfer is not None and cubin != flashinfer:
        why = f"that of flashinfer-python, {flashinfer}, and not {cubin}"
        remedy = cubin_remedy(Version(flashinfer)) if _is_version(flashinfer) else REMEDY
        found.append(Missing(what="flashinfer-cubin", why=why, remedy=remedy))
    if flashinfer is not None and _is_version(flashinfer):
        waiting = tuple(name for name in backends if name == "trtllm_mha")
        found += [
            Missing(what="SM100 kernel list", why=why, remedy=remedy, backends=waiting)
            for why, remedy in faults(Version(flashinfer))
        ]
    for name, purpose in _OPTIONAL.items():
        if packages[name] is None:
            found.append(Missing(what=name, why=purpose, remedy=f"pip install {name}"))
    return [*found, *_missing_gpu(platform, backends)]


def _is_version(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def _missing_gpu(platform: Platform, backends: tuple[str, ...]) -> list[Missing]:
    if platform.sm is not None:
        if platform.driver is not None:
            return []
        return [Missing(what="nvidia-ml-py", why="reads the driver's version", remedy="pip install nvidia-ml-py")]
    waiting = tuple(name for name in backends if name in _GPU_ALONE)
    if shutil.which("nvidia-smi") is not None:
        remedy = "pip install --force-reinstall torch"
        return [Missing(what="GPU", why="the installed torch sees none", remedy=remedy, backends=waiting)]
    remedy = "attnconf plan --policy sglang-gemma4 --sm 10.0"
    return [Missing(what="GPU", why="what needs one", remedy=remedy, backends=waiting)]
