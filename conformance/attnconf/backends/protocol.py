"""What a backend is: a Protocol and the values in which it declares itself. No base class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch

    from attnconf.cases.case import PoisonKind, TableTail
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape
    from attnconf.numerics import NumericsProfile
    from attnconf.platforms import Platform

Evidence = Literal["kernel", "contract"]
LseBase = Literal["natural", "two"]


ANYTHING: frozenset[PoisonKind] = frozenset({"zero", "stale", "huge", "inf", "nan"})
REQUIRED: frozenset[PoisonKind] = frozenset({"zero", "stale"})
FINITE: frozenset[PoisonKind] = REQUIRED | {"huge"}


@dataclass(frozen=True)
class Unsupported:
    """A declared refusal, with its reason in one clause of a sentence."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Promises:
    """The optional clauses of the contract that a backend keeps; what it does not promise is not asked of it.

    ``dead_k`` and ``dead_v``: contents of dead slots' keys and values that change no bit (clause 6; zero and stale are
    required of everyone). ``table_tail``: what may stand in unused columns of the block table. ``reclaimed_v``: a null
    page may replace a page behind the window, with such values in it (clause 7; empty: no page may be reclaimed).
    ``empty_kv``: a row over no key yields zeros and LSE -inf (clause 11). ``empty_q``:
    a request without query tokens may be in the batch. ``deterministic``: same call, same bits (clause 15).
    ``batch_invariant``: a request's bits do not depend on its neighbours (clause 12). ``hint_invariant``: nor on larger
    host hints (clause 19). ``cuda_graph``: what it prepares is ``Replayable`` (clause 16). ``lse``: the base of the
    log-sum-exp that it returns, or None. ``least_window``: the smallest ``window_left`` that it takes for a window
    (clause 2): engines have a value, often 0, that means none.

    A bitwise clause that is not promised is judged within the error bound instead. Promises are the backend's, whatever
    kernel serves a shape: engines fill one pool for all of them.
    """

    cuda_graph: bool = False
    dead_k: frozenset[PoisonKind] = ANYTHING
    dead_v: frozenset[PoisonKind] = ANYTHING
    table_tail: frozenset[TableTail] = frozenset({"null", "stale", "invalid"})
    reclaimed_v: frozenset[PoisonKind] = ANYTHING
    empty_kv: bool = True
    empty_q: bool = True
    deterministic: bool = True
    batch_invariant: bool = True
    hint_invariant: bool = True
    lse: LseBase | None = None
    least_window: int = 0


class Prepared(Protocol):
    """A batch made ready: metadata built once, then run layer by layer, as engines do."""

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        """Run one layer and return the name of the kernel that really ran.

        Write ``out`` [tokens, num_qo_heads, head_dim] in q's dtype, every element, and ``lse``
        [tokens, num_qo_heads] float32 in the promised base when it is not None. Change nothing else.
        """
        ...


class Replayable(Prepared, Protocol):
    """A prepared batch whose layers can be captured in a CUDA graph and replayed over another batch."""

    def update(self, batch: Batch) -> None:
        """Refresh the metadata in place, as engines do between replays.

        ``batch`` has the tensors of the prepared one, with other contents; query lengths and host hints are the same.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Scratch memory that launches share: ``memory`` is contiguous, of any dtype.

    Its first ``zero_bytes`` are zero at every launch, and every launch leaves them so (semaphores, counters). What the
    rest holds matters to no launch (clause 15).
    """

    memory: torch.Tensor
    zero_bytes: int = 0


@runtime_checkable
class Scratched(Prepared, Protocol):
    """A prepared batch whose kernels use scratch memory: optional, and asked for more by clause 15."""

    def workspaces(self) -> tuple[Workspace, ...]:
        """Name the memory that the runs of this batch use and whose contents no plan and no metadata depends on."""
        ...


@runtime_checkable
class Dispatching(Protocol):
    """A backend that says which of its kernels may serve a shape: optional, and held to it by clause 20."""

    def kernels(self, shape: KernelShape) -> frozenset[str]:
        """Return the names of those kernels, as ``run`` returns them; another one that ran is a silent fallback."""
        ...


class Backend(Protocol):
    """One attention backend under the contract."""

    @property
    def name(self) -> str:
        """The name in reports and receipts: its entry point's, where it has one, and a variant in brackets.

        A contract reading ends in ``[contract]``, and nothing else does.
        """
        ...

    @property
    def evidence(self) -> Evidence:
        """``kernel``, or ``contract`` when a documented contract is executed in the kernel's place."""
        ...

    @property
    def promises(self) -> Promises:
        """The optional clauses that it keeps."""
        ...

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or why this shape cannot run there: pure, and without importing the kernel library."""
        ...

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Return how the kernel for this shape holds its intermediate values."""
        ...

    def prepare(self, batch: Batch) -> Prepared:
        """Build the metadata of ``batch``. Raises ``UnsupportedError`` before any launch for what it cannot do.

        A batch may hold layers that ``supports`` declines: the others must still run, so ``run`` refuses those. What
        it returns stays valid while other batches are prepared and run.
        """
        ...


def declared(backend: Backend, shape: KernelShape, platform: Platform) -> Unsupported | None:
    """Return what ``backend`` declares of ``shape``.

    Raises what its ``supports`` raises, and ``TypeError`` for an answer that is neither: a bool reads either way.
    """
    said: object = backend.supports(shape, platform)
    if said is None or isinstance(said, Unsupported):
        return said
    raise TypeError(f"it returned {said!r}, and neither None nor Unsupported(reason)")
