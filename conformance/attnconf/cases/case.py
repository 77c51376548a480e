"""Case: one conformance question, as a value.

A Case holds everything that decides a run, and nothing else: tensors are always derived from it. Drawing, recorded
vectors, replay, benchmarks, receipts and error messages all use this one class.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from attnconf.cases.dtype_rules import check_dtypes, check_stored
from attnconf.cases.dtypes import FP8, QUANTISED, Dtypes, KVDtype, OutDtype, QDtype
from attnconf.cases.geometry import LayerGeometry, Positive, check_owners
from attnconf.cases.recorded import Recorded, Tenant
from attnconf.cases.request import MAX_VERIFY_TOKENS, Count, Request
from attnconf.values import Value, digest

Mode = Literal["decode", "extend", "mixed", "verify"]
KVLayout = Literal["NHD", "HND"]
Storage = Literal["apart", "interleaved", "padded", "sliced", "unlike"]
QueryStorage = Literal["apart", "packed"]
Placement = Literal["identity", "random", "reversed", "fragmented", "high", "far", "recorded"]
TableTail = Literal["null", "stale", "invalid"]
PoisonKind = Literal["zero", "stale", "huge", "inf", "nan"]
ContextLength = Annotated[int, Field(ge=0, le=2**31 - 1, strict=True)]
Scale = Annotated[float, Field(ge=2.0**-20, le=2.0**20, allow_inf_nan=False)]


LEAST_OUT_SCALE = 2.0**-6
"""The smallest out_scale: answers are averages of values, which reach 4.9, and float8_e4m3fn ends at 448."""


class Layer(LayerGeometry):
    """A layer of a case: its geometry, and the scales of what is stored in 8 or 4 bits (key = stored * k_scale).

    ``q_scale`` is that of queries, ``out_scale`` that of the answer: what a backend writes is the answer / out_scale. A
    calibrated layer has both, whatever the dtypes: over a query or an answer of 16 bits they must not count.
    ``k_scales`` and ``v_scales`` have a scale for each KV head, in the place of the one number, which is 1 then. In
    NVFP4 these are the global scales: what is stored there is a number of 4 bits times the scale of its block.
    """

    k_scale: Scale = 1.0
    v_scale: Scale = 1.0
    k_scales: tuple[Scale, ...] = ()
    v_scales: tuple[Scale, ...] = ()
    q_scale: Scale = 1.0
    out_scale: Annotated[float, Field(ge=LEAST_OUT_SCALE, le=2.0**20, allow_inf_nan=False)] = 1.0

    @model_validator(mode="after")
    def _check_head_scales(self) -> Self:
        if bool(self.k_scales) != bool(self.v_scales):
            raise ValueError("k_scales and v_scales come together")
        for name, scales, one in (
            ("k_scale", self.k_scales, self.k_scale),
            ("v_scale", self.v_scales, self.v_scale),
        ):
            if scales and len(scales) != self.num_kv_heads:
                raise ValueError(f"{name}s has {len(scales)} numbers, not one for each of {self.num_kv_heads} KV heads")
            if scales and len(set(scales)) == 1:
                raise ValueError(f"{name}s is {scales[0]} for all heads: that is {name}")
            if scales and one != 1.0:
                raise ValueError(f"{name} and {name}s are two ways of saying it: with {name}s, {name} is 1, not {one}")
        return self


class Paging(Value):
    """How the tokens lie in memory.

    ``placement`` orders the page ids. ``extra_columns`` widens the block table, and ``table_tail`` fills its unused
    columns: the null page, stale ids of the pool, or ids outside the pool. ``slack_pages`` counts the pool's free
    pages. ``hybrid`` gives sliding layers their own pool and page ids; ``reclaimed`` frees the pages that lie wholly
    behind every window. ``storage``: K and V in two allocations, interleaved in one, with padding after each page,
    sliced out of a larger tensor, or unlike, with padding after each page of K alone. With ``table_slack`` the block
    table is a slice of a table with so many more columns. Placement ``recorded`` takes the tables of ``recorded``, as
    an engine had them.
    """

    page_size: Positive = 16
    placement: Placement = "random"
    extra_columns: Count = 0
    table_tail: TableTail = "null"
    slack_pages: Count = 2
    hybrid: bool = False
    reclaimed: bool = False
    layout: KVLayout = "NHD"
    storage: Storage = "apart"
    table_slack: Count = 0
    recorded: Recorded | None = None


class QuerySide(Value):
    """How the queries and the output lie in memory, and what the host says of the lengths.

    ``storage`` packed: the queries of a layer are a slice of one tensor with the keys and values of the new tokens, as
    a fused projection leaves them. ``slack_rows`` rows follow the last request's in queries, output and LSE, as in the
    buffers of a captured graph. The hint ``max_seq_len`` is at least ``context_len``: engines pass the model's context
    length.
    """

    storage: QueryStorage = "apart"
    slack_rows: Count = 0
    context_len: ContextLength = 0


class Poison(Value):
    """The contents of dead slots: those that no live token owns."""

    k: PoisonKind = "stale"
    v: PoisonKind = "stale"


class Case(Value):
    """One conformance question; ``conformance/CONTRACT.md`` says what a right answer is.

    ``out_dtype`` is the dtype of the answer; None is that of the query. Under an 8-bit query it must be said.
    ``padding_rows`` counts requests that fill a batch up, as in a captured one; see ``padding_tokens``.
    """

    schema_id: Literal["attnconf.case/1"] = Field(default="attnconf.case/1", alias="schema")
    model: str = "free"
    mode: Mode
    q_dtype: QDtype = "bfloat16"
    kv_dtype: KVDtype = "bfloat16"
    out_dtype: OutDtype | None = None
    layers: tuple[Layer, ...] = Field(min_length=1)
    requests: tuple[Request, ...] = Field(min_length=1)
    paging: Paging = Paging()
    padding_rows: Count = 0
    padding_kv_len: Annotated[int, Field(ge=0, le=1)] = 0
    query: QuerySide = QuerySide()
    poison: Poison = Poison()
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @property
    def id(self) -> str:
        """A stable name: the first 12 hex digits of the digest of the canonical JSON."""
        return digest(self.to_data())[:12]

    @property
    def max_kv_len(self) -> int:
        """The kv_len of the longest request."""
        return max(request.kv_len for request in self.requests)

    @property
    def max_seq_len(self) -> int:
        """The host hint of the longest request, in keys: at least 1, as of a batch of padding."""
        return max(1, self.max_kv_len, self.padding_keys if self.padding_rows else 0, self.query.context_len)

    @property
    def padding_tokens(self) -> int:
        """The query tokens of each padding row's request: in a verify step as many as the longest request has."""
        return max(request.new_tokens for request in self.requests) if self.mode == "verify" else 1

    @property
    def padding_keys(self) -> int:
        """The keys of each padding row's request: none, or one for each of its query tokens, in the null page."""
        return self.padding_tokens if self.padding_kv_len else 0

    @property
    def answer_dtype(self) -> OutDtype:
        """The dtype of the answer."""
        return self.out_dtype or self.q_dtype

    @property
    def dtypes(self) -> Dtypes:
        """The dtypes of queries, KV and answer."""
        return Dtypes(self.q_dtype, self.kv_dtype, self.answer_dtype)

    def q_scale(self, layer: int) -> float:
        """Return how many times a stored query of ``layer`` counts."""
        return self.layers[layer].q_scale if self.q_dtype == FP8 else 1.0

    def out_scale(self, layer: int) -> float:
        """Return how many times a stored answer of ``layer`` counts."""
        return self.layers[layer].out_scale if self.answer_dtype == FP8 else 1.0

    def owner(self, layer: int) -> int:
        """Return the index of the layer whose KV ``layer`` reads."""
        redirect = self.layers[layer].kv_owner
        return layer if redirect is None else redirect

    @property
    def recorded_tables(self) -> Recorded | None:
        """The recorded tables, or None where there are none that fit.

        A variant of a recorded case, such as one with other lengths, larger pages or no sharing, is placed at random.
        """
        try:
            _check_recorded(self)
        except ValueError:
            return None
        return self.paging.recorded

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_owners(self.layers)
        check_dtypes(self.dtypes, self.out_dtype)
        check_stored(self.kv_dtype, self.layers, {self.poison.k, self.poison.v})
        _check_scales(self)
        _check_modes(self)
        if any(layer.bidirectional for layer in self.layers) and any(request.tree for request in self.requests):
            raise ValueError(
                "a tree of draft tokens is not for a bidirectional layer, in which all tokens see each other"
            )
        _check_sharing(self)
        _check_recorded(self)
        if self.paging.reclaimed and not (self.paging.hybrid or all(layer.kind == "sliding" for layer in self.layers)):
            raise ValueError(
                "paging.reclaimed needs paging.hybrid, or sliding layers only: a full layer still reads those pages"
            )
        if self.padding_rows and self.mode not in {"decode", "verify"}:
            raise ValueError(f"padding_rows belong to modes decode and verify, not {self.mode}")
        return self


def _check_scales(case: Case) -> None:
    """Refuse the scales of a calibrated layer where nothing is stored with them."""
    if case.kv_dtype in QUANTISED:
        return
    for names in (("k_scale", "v_scale"), ("q_scale",), ("out_scale",), ("k_scales", "v_scales")):
        if any(getattr(layer, name) not in {1.0, ()} for layer in case.layers for name in names):
            verb = "belongs" if len(names) == 1 else "belong"
            raise ValueError(f"{' and '.join(names)} {verb} to KV of 8 or 4 bits, not to {case.kv_dtype}")


def _check_modes(case: Case) -> None:
    tokens = [request.new_tokens for request in case.requests]
    if case.mode == "decode" and any(count != 1 for count in tokens):
        message = "mode decode has exactly 1 new token in every request"
    elif case.mode == "verify" and not 2 <= max(tokens) <= MAX_VERIFY_TOKENS:  # noqa: PLR2004 - "several"
        message = (
            f"mode verify has at most {MAX_VERIFY_TOKENS} new tokens in every request, and several in one at least"
        )
    elif case.mode == "mixed" and not (1 in tokens and max(tokens) > 1):
        message = "mode mixed has a request with 1 new token and one with more"
    elif case.mode != "verify" and any(request.tree for request in case.requests):
        message = f"a tree of draft tokens belongs to mode verify, not {case.mode}"
    elif max(tokens) == 0:
        message = "at least one request needs a new token"
    else:
        return
    raise ValueError(message)


def _check_sharing(case: Case) -> None:
    for index, request in enumerate(case.requests):
        if request.shares_with is None:
            if request.shared_pages:
                raise ValueError(f"request {index}: shared_pages without shares_with")
            continue
        if request.shares_with >= index:
            raise ValueError(f"request {index}: shares_with {request.shares_with} is not an earlier request")
        shared = request.shared_pages * case.paging.page_size
        other = case.requests[request.shares_with]
        # An engine may share what the earlier request writes in this very step: every key is written before it is read.
        theirs = other.prefix_len if case.paging.recorded is None else other.kv_len
        if shared > min(request.prefix_len, theirs):
            raise ValueError(
                f"request {index}: {request.shared_pages} shared pages exceed the prefix of one of the two requests"
            )


def _check_recorded(case: Case) -> None:
    paging = case.paging
    if (paging.recorded is None) != (paging.placement != "recorded"):
        raise ValueError("paging.recorded belongs to placement recorded, and the other way round")
    if paging.recorded is None:
        return
    window = max((layer.window_left for layer in case.layers if layer.kind == "sliding"), default=-1)
    tenants = [
        Tenant(
            pages=-(-request.kv_len // paging.page_size),
            gone=0 if window < 0 else max(0, request.prefix_len - window) // paging.page_size,
            shares_with=request.shares_with,
            shared_pages=request.shared_pages,
        )
        for request in case.requests
    ]
    paging.recorded.check(tenants, hybrid=paging.hybrid, reclaimed=paging.reclaimed)
