"""Doctor: what this machine is, which backends work on it, what is missing, and the command that fixes it."""

from __future__ import annotations

import importlib.metadata
import platform as python_platform
import shutil
from typing import TYPE_CHECKING, Literal

from attnconf.backends.flashinfer.package import FLOOR
from attnconf.cases.case import Case, Layer, Paging, Request
from attnconf.errors import BackendUnavailableError
from attnconf.judging.result import Outcome
from attnconf.platforms import PACKAGES, Platform
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

_OPTIONAL = {
    "pytest-xdist": "runs the suite on several cores",
    "matplotlib": "draws attnconf picture",
}


class BackendFinding(Value):
    """How one registered backend did on ``SAMPLE``: ``contract`` proves its adapter, and no kernel."""

    name: str
    status: Status
    detail: str


class Missing(Value):
    """Something that is not here, what it is for, and the command that brings it."""

    what: str
    remedy: str


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
    packages = {name: _version(name) for name in (*PACKAGES, "pytest", "hypothesis", *_OPTIONAL)}
    return Findings(
        attnconf=_version("attnconf") or "unknown",
        python=python_platform.python_version(),
        platform=session.platform,
        packages=packages,
        backends=tuple(_ask(session, name) for name in session.registry.names),
        missing=tuple(_missing(session.platform, packages)),
    )


def _ask(session: Session, name: str) -> BackendFinding:
    reason = session.why_not(name)
    if reason is None:
        try:
            return _finding(name, session.run(SAMPLE, name).layers[0])
        except BackendUnavailableError as error:  # its own process does not start
            reason = str(error)
    return BackendFinding(name=name, status="unavailable", detail=reason)


def _finding(name: str, layer: LayerResult) -> BackendFinding:
    if layer.outcome is Outcome.PASSED:
        return BackendFinding(name=name, status="works", detail=layer.kernel)
    if layer.outcome is Outcome.CONTRACT_ONLY:
        detail = (
            "no GPU that runs its kernels: their documented contract is executed instead, which is no kernel evidence"
        )
        return BackendFinding(name=name, status="contract", detail=detail)
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


def _missing(platform: Platform, packages: dict[str, str | None]) -> list[Missing]:
    found = []
    if packages["triton"] is None:
        found.append(Missing(what="triton, for the backend triton", remedy='pip install "attnconf[triton]"'))
    flashinfer = packages["flashinfer-python"]
    if flashinfer is None:
        remedy = f'pip install "flashinfer-python>={FLOOR}"'
        found.append(Missing(what="flashinfer-python, for the backend trtllm_mha", remedy=remedy))
    cubin = packages["flashinfer-cubin"]
    if cubin is not None and flashinfer is not None and cubin != flashinfer:
        what = f"a flashinfer-cubin of flashinfer-python's version: {cubin} is not {flashinfer}"
        found.append(Missing(what=what, remedy=f"pip install flashinfer-cubin=={flashinfer}"))
    for name, purpose in _OPTIONAL.items():
        if packages[name] is None:
            found.append(Missing(what=f"{name}, which {purpose}", remedy=f"pip install {name}"))
    return [*found, *_missing_gpu(platform)]


def _missing_gpu(platform: Platform) -> list[Missing]:
    if platform.sm is not None:
        if platform.driver is not None:
            return []
        return [Missing(what="nvidia-ml-py, which reads the driver's version", remedy="pip install nvidia-ml-py")]
    if shutil.which("nvidia-smi") is not None:
        what = "a torch that sees this machine's GPU: the installed one does not"
        return [Missing(what=what, remedy="pip install --force-reinstall torch")]
    what = "an NVIDIA GPU, without which no GPU kernel is proven; this lists what needs one of the SM100 family"
    return [Missing(what=what, remedy="attnconf plan --policy sglang-gemma4 --sm 10.0")]
