"""Backend: a Protocol, not a base class, and the values with which a backend declares itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args, runtime_checkable

from attnconf.cases.shape import batch_shape

if TYPE_CHECKING:
    import torch

    from attnconf.cases.case import PoisonKind, QueryStorage, TableTail
    from attnconf.cases.inputs.batch import Batch
    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform
    from attnconf.precision import NumericsProfile

EvidenceKind = Literal["kernel", "contract"]
LseBase = Literal["natural", "two"]
Corruption = Literal["negative_lengths", "long_lengths", "query_starts", "page_ids", "hints"]
CORRUPTIONS: tuple[Corruption, ...] = get_args(Corruption)
"""Metadata that no batch can have: lengths below 0 or beyond their table, starts beyond the queries, pages outside the
pool, hints below a length."""

CONTRACT = "[contract]"
"""What readers see behind the name of a backend whose contract is executed; no backend's own name ends so."""

ANYTHING: frozenset[PoisonKind] = frozenset({"zero", "stale", "huge", "inf", "nan"})
"""All contents of dead slots."""

REQUIRED: frozenset[PoisonKind] = frozenset({"zero", "stale"})
"""Contents of dead slots that every backend must tolerate."""

FINITE: frozenset[PoisonKind] = REQUIRED | {"huge"}
"""All finite contents of dead slots."""


@dataclass(frozen=True)
class Unsupported:
    """A declared refusal, with its reason in one clause of a sentence."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Promises:
    """The optional clauses of the contract that a backend keeps. A clause that is not promised is not tested.

    ``dead_k`` and ``dead_v``: tolerated contents of the keys and values in dead slots, which change no bit (clause 6;
    zero and stale are required). ``table_tail``: tolerated contents of unused columns of the block table.
    ``reclaimed_v``: a null page with such values may replace a page behind the window (clause 7; empty: no page may be
    reclaimed). ``empty_kv``: a row without keys yields zeros and LSE -inf (clause 11). ``empty_q``: a request without
    query tokens may be in the batch. ``deterministic``: same call, same bits (clause 15). ``batch_invariant``: a
    request's bits do not depend on its neighbours (clause 12). ``hint_invariant``: nor on larger host hints (clause
    19). ``cuda_graph``: prepared batches are ``Replayable`` (clause 16). ``cuda_graph_q_lens``: also over fewer query
    tokens than were captured, none among them. ``lse``: the base of the returned log-sum-exp, or None.
    ``query_storage``: how the queries may lie; a packed one is a slice of a larger tensor (clause 14). ``table_slack``:
    the block table may be a slice, too. ``slack_rows``: queries, output and LSE may have rows behind the last request's
    (clause 10). ``validates``: corrupted metadata that is refused, or answered right (clause 20). ``least_window``: the
    smallest ``window_left`` that counts as a window (clause 2): in engines a smaller value, often 0, means no window.

    A bitwise clause that is not promised is judged within the error bound instead. Promises hold for every kernel of
    the backend, since engines fill one pool for all of them.
    """

    cuda_graph: bool = False
    cuda_graph_q_lens: bool = False
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
    query_storage: frozenset[QueryStorage] = frozenset({"apart", "packed"})
    table_slack: bool = True
    slack_rows: bool = True
    validates: frozenset[Corruption] = frozenset()


class Prepared(Protocol):
    """A prepared batch: its metadata is built once, then it runs layer by layer, as in engines."""

    def run(self, layer: int, out: torch.Tensor, lse: torch.Tensor | None) -> str:
        """Run one layer and return the name of the kernel that ran.

        Write ``out`` [rows, num_qo_heads, head_dim] in q's dtype, every element of the first ``num_rows`` rows of the
        batch, and ``lse`` [rows, num_qo_heads] float32 in the promised base when it is not None. Change nothing else:
        q, out and lse may have more rows, which are neither read nor written.
        """
        ...


class Replayable(Prepared, Protocol):
    """A prepared batch whose layers can be captured in a CUDA graph and replayed over another batch."""

    def update(self, batch: Batch) -> None:
        """Refresh the metadata in place, as engines do between replays.

        ``batch`` has the same tensors as the prepared batch with other contents, the same number of requests and the
        same host hints. Requests at its end may be padding: with the captured query lengths over no key, or over the
        null page. Of a backend that promises ``cuda_graph_q_lens`` each request may have fewer query tokens than when
        it was captured, and padding has neither query tokens nor keys.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Scratch memory that launches share: ``memory`` is contiguous, of any dtype.

    Its first ``zero_bytes`` are zero before and after every launch (semaphores, counters). The contents of the rest
    must not matter (clause 15).
    """

    memory: torch.Tensor
    zero_bytes: int = 0


@runtime_checkable
class Scratched(Prepared, Protocol):
    """A prepared batch whose kernels use scratch memory. Optional; a check of clause 15 needs it."""

    def workspaces(self) -> tuple[Workspace, ...]:
        """Return the memory that runs of this batch use as scratch; it must contain no plan and no metadata."""
        ...


@runtime_checkable
class Dispatching(Protocol):
    """A backend that names the kernels for a shape. Optional; clause 20 compares them with the kernel that ran."""

    def kernels(self, shape: KernelShape) -> frozenset[str]:
        """Return the kernels for ``shape``, named as ``run`` names them; any other kernel is a silent fallback."""
        ...


@runtime_checkable
class Imports(Protocol):
    """A backend whose kernel library takes seconds to import. Optional."""

    def import_library(self) -> None:
        """Import what ``prepare`` would import first, and nothing that holds memory of a GPU.

        Asked on a machine with a GPU once the backend has declared itself, while nobody waits for it: what it raises
        counts where the library is used.
        """
        ...


class Declares(Protocol):
    """The part of a backend that runs no kernel."""

    @property
    def name(self) -> str:
        """As ``Backend.name``."""
        ...

    @property
    def promises(self) -> Promises:
        """As ``Backend.promises``."""
        ...

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """As ``Backend.supports``."""
        ...

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """As ``Backend.numerics``."""
        ...


class Backend(Protocol):
    """One attention backend."""

    @property
    def name(self) -> str:
        """The name in reports and receipts: as it is registered, or with a variant in brackets behind that."""
        ...

    @property
    def evidence(self) -> EvidenceKind:
        """``kernel``, or ``contract`` when a documented contract is executed in the kernel's place."""
        ...

    @property
    def promises(self) -> Promises:
        """The optional clauses that the backend keeps."""
        ...

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return None, or why this shape cannot run there. Pure: it does not import the kernel library."""
        ...

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Return how the kernel for this shape holds its intermediate values."""
        ...

    def prepare(self, batch: Batch) -> Prepared:
        """Build the metadata of ``batch``. Raises ``UnsupportedError`` before any launch for an unsupported batch.

        A batch may have layers that ``supports`` declines. The others must still run, so ``run`` refuses the declined
        ones. The result stays valid while other batches are prepared and run.
        """
        ...


def shown_name(backend: str, evidence: EvidenceKind) -> str:
    """Return the name ``backend`` as a reader sees it, marked where no kernel runs: nothing is ever read out of it."""
    return f"{backend}{CONTRACT}" if evidence == "contract" else backend


def declared(backend: Declares, shape: KernelShape, platform: Platform) -> Unsupported | None:
    """Return what ``backend`` declares about ``shape``.

    Raises what its ``supports`` raises, and ``TypeError`` for any other answer: the meaning of a bool is not clear.
    """
    said: object = backend.supports(shape, platform)
    if said is None or isinstance(said, Unsupported):
        return said
    raise TypeError(f"it returned {said!r}, and neither None nor Unsupported(reason)")


def refusals(backend: Backend, batch: Batch, platform: Platform) -> dict[int, str]:
    """Return the layers of ``batch`` that ``backend`` declares unsupported on ``platform``, each with the reason."""
    found = {index: backend.supports(batch_shape(batch, index), platform) for index in range(len(batch.layers))}
    return {index: declined.reason for index, declined in found.items() if declined is not None}
