"""The attention geometry of a model: for each layer its heads, its window and the owner of its KV."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from attnconf.values import Value

LayerKind = Literal["sliding", "full", "chunked"]
CellKind = Literal["sliding", "full", "chunked", "sliding-shared", "full-shared", "chunked-shared"]
LARGEST = 2**31 - 1
"""The largest head count, size or window: kernels index with 32-bit integers, and real models stay below."""

SMALLEST_SCALE, LARGEST_SCALE = 2.0**-16, 2.0**15
"""Beyond these a 16-bit key of ordinary score, or its product with a query, is no finite number."""

ScoreScale = Annotated[float, Field(ge=SMALLEST_SCALE, le=LARGEST_SCALE, allow_inf_nan=False)]
Positive = Annotated[int, Field(gt=0, le=LARGEST, strict=True)]

MOST_UNDER_WIDER, WIDEST_VALUES = 64, 512
"""The largest head_dim under values that are wider, and the most of these: FlashAttention 3's own limits, which alone
has kernels for such (``mha_fwd`` in hopper/flash_api.cpp: "Q/K <= 64 and V <= 512")."""

_KV_SHAPE = "num_kv_heads and head_dim"
_SLICE = "@slice"
_SHARD_SUFFIX = re.compile(rf"(@tp\d+|{_SLICE})\Z")


class LayerGeometry(Value):
    """One attention layer.

    ``window_left`` is attnconf's one window convention: a query at position i sees keys j with ``i - window_left <= j
    <= i``; -1 is unlimited. A Hugging Face ``sliding_window`` W is ``window_left = W - 1``. ``kv_owner`` is the index
    of the layer whose keys and values this layer reads; None means its own. With ``spans`` the tokens of a span, as of
    an image, see each other in both directions (``cases/sight.py``). In a ``bidirectional`` layer, as of an encoder or
    of drafts that are denoised together, all tokens of a request do, and a window reaches as far behind a row as before
    it: ``i - window_left <= j <= i + window_left``. A chunked layer cuts each request's positions into chunks of
    ``chunk_size``: a query at i sees keys j <= i of its own chunk, ``j // chunk_size == i // chunk_size`` (Llama 4's
    ``attention_chunk_size``). ``head_dim_v`` is the width of a value and of an answer, where it is not ``head_dim``,
    that of a query and of a key (MiMo-V2-Flash: 128 and 192).
    """

    kind: LayerKind
    window_left: Annotated[int, Field(ge=-1, le=LARGEST, strict=True)] = -1
    num_qo_heads: Positive
    num_kv_heads: Positive
    head_dim: Positive
    head_dim_v: Positive | None = None
    sm_scale: ScoreScale
    logits_soft_cap: ScoreScale | None = None
    sinks: bool = False
    kv_owner: Annotated[int, Field(ge=0, strict=True)] | None = None
    spans: bool = False
    bidirectional: bool = False
    chunk_size: Positive | None = None

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, data: Any) -> Any:  # noqa: ANN401 - what is validated may be anything
        """Leave out a ``head_dim_v`` that is the head_dim: one layer has one form."""
        if isinstance(data, dict) and data.get("head_dim_v") is not None and data["head_dim_v"] == data.get("head_dim"):
            return {name: value for name, value in data.items() if name != "head_dim_v"}
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        wider = self.value_dim > self.head_dim
        if wider and (self.head_dim > MOST_UNDER_WIDER or self.value_dim > WIDEST_VALUES):
            raise ValueError(
                f"head_dim_v {self.head_dim_v} is above head_dim {self.head_dim}: no kernel has wider values but under"
                f" a head_dim up to {MOST_UNDER_WIDER}, and then up to {WIDEST_VALUES}"
            )
        if self.num_qo_heads % self.num_kv_heads:
            raise ValueError(f"num_qo_heads {self.num_qo_heads} is not a multiple of num_kv_heads {self.num_kv_heads}")
        if self.kind == "full" and self.window_left != -1:
            raise ValueError(f"a full layer has no window, but window_left is {self.window_left}")
        if self.kind == "sliding" and self.window_left == -1:
            raise ValueError("a sliding layer needs a window: window_left of 0 or more")
        if (self.kind == "chunked") != (self.chunk_size is not None):
            raise ValueError(
                f"a chunked layer has a chunk_size and no other has, but {self.kind} has {self.chunk_size}"
            )
        if self.kind == "chunked" and (self.window_left != -1 or self.spans):
            raise ValueError("a chunked layer has no window and follows no spans: window_left -1, spans false")
        if self.bidirectional and (self.kind == "chunked" or self.spans):
            raise ValueError("a bidirectional layer has no chunks and follows no spans: all tokens see each other")
        return self

    @property
    def group_size(self) -> int:
        """Query heads per KV head."""
        return self.num_qo_heads // self.num_kv_heads

    @property
    def kv_shape(self) -> tuple[int, int, int]:
        """The KV heads, and the numbers of a key and of a value: what two layers over one cache agree in."""
        return self.num_kv_heads, self.head_dim, self.value_dim

    @property
    def value_dim(self) -> int:
        """The numbers of a value, and of an answer: ``head_dim_v``, or ``head_dim``."""
        return self.head_dim if self.head_dim_v is None else self.head_dim_v

    @property
    def reach(self) -> int:
        """The most keys before its own that a row sees, -1 without a limit."""
        return self.window_left if self.chunk_size is None else self.chunk_size - 1

    def first_seen(self, position: int) -> int:
        """Return the oldest key that a query at ``position`` sees."""
        if self.chunk_size is not None:
            return position // self.chunk_size * self.chunk_size
        return first_visible(position, self.window_left)

    @property
    def cell_kind(self) -> str:
        """The layer kind in receipts: sliding, full or chunked, with -shared behind it where it is redirected."""
        return self.kind if self.kv_owner is None else f"{self.kind}-shared"


def first_visible(position: int, window_left: int) -> int:
    """Return the oldest key that a query at ``position`` sees under ``window_left``."""
    return max(0, position - window_left) if window_left >= 0 else 0


def check_owners(layers: tuple[LayerGeometry, ...]) -> None:
    """Raise ``ValueError`` unless every ``kv_owner`` names an earlier, owning layer of the same kind and KV shape."""
    for index, layer in enumerate(layers):
        if layer.kv_owner is None:
            continue
        if layer.kv_owner >= index:
            raise ValueError(f"layer {index}: kv_owner {layer.kv_owner} is not an earlier layer")
        owner = layers[layer.kv_owner]
        if owner.kv_owner is not None:
            raise ValueError(f"layer {index}: kv_owner {layer.kv_owner} owns no KV itself")
        if owner.kind != layer.kind:
            raise ValueError(
                f"layer {index}: a {layer.kind} layer cannot read the KV of the {owner.kind} layer {layer.kv_owner}"
            )
        if owner.kv_shape != layer.kv_shape:
            what = "num_kv_heads, head_dim and head_dim_v" if layer.head_dim_v or owner.head_dim_v else _KV_SHAPE
            message = f"layer {index}: {what} differ from those of its kv_owner {layer.kv_owner}"
            raise ValueError(message)


class ModelGeometry(Value):
    """A model's attention layers, with the names under which engines select it.

    ``left_out`` names the kinds of its other layers, which have no keys and values: ``linear_attention``, ``mamba``.
    """

    name: str
    architectures: tuple[str, ...] = ()
    layers: tuple[LayerGeometry, ...] = Field(min_length=1)
    left_out: tuple[str, ...] = ()
    provenance: str = ""

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_owners(self.layers)
        return self

    def shard(self, tp: int) -> ModelGeometry:
        """Return one rank's geometry under tensor parallelism of degree ``tp``, named ``NAME@tpN``.

        Query heads are split. KV heads are split too, or replicated where there are fewer of them than ranks, as in
        serving engines. Raises ``ValueError`` when the heads do not divide.
        """
        if tp == 1:
            return self
        layers = tuple(_shard(layer, tp) for layer in self.layers)
        return self.model_copy(update={"name": f"{self.name}@tp{tp}", "layers": layers})

    def slice(self, query_heads: int) -> ModelGeometry:
        """Return the geometry with few heads, named ``NAME@slice`` if it has others: what a CPU can bear.

        Each layer keeps as many KV heads as ``query_heads`` need, at least one, each with its whole group: which kernel
        runs depends on the group size.
        """
        layers = tuple(_slice(layer, query_heads) for layer in self.layers)
        return (
            self
            if layers == self.layers
            else self.model_copy(update={"name": f"{self.name}{_SLICE}", "layers": layers})
        )

    def splits(self, tp: int) -> bool:
        """Return whether tensor parallelism of degree ``tp`` divides the heads of every layer."""
        return all(_splits(layer, tp) for layer in self.layers)

    @property
    def cell_kinds(self) -> tuple[str, ...]:
        """The model's layer kinds as in receipts, sorted."""
        return tuple(sorted({layer.cell_kind for layer in self.layers}))

    def case_layers(self) -> tuple[LayerGeometry, ...]:
        """Return one layer of each distinct geometry, owners first, with ``kv_owner`` pointing into the result.

        A redirected layer counts as another geometry than its owner, since a backend must handle it differently.
        """
        chosen: list[LayerGeometry] = []
        position: dict[LayerGeometry, int] = {}
        for layer in self.layers:
            local = layer
            if layer.kv_owner is not None:
                local = layer.model_copy(update={"kv_owner": position[self.layers[layer.kv_owner]]})
            if local not in position:
                position[local] = len(chosen)
                chosen.append(local)
        return tuple(chosen)


def unsharded(name: str) -> str:
    """Return the model's name without the suffix of ``shard`` or ``slice``: ``gemma4-e2b@tp4`` is ``gemma4-e2b``."""
    return _SHARD_SUFFIX.sub("", name)


def _splits(layer: LayerGeometry, tp: int) -> bool:
    return tp >= 1 and layer.num_qo_heads % tp == 0 and (layer.num_kv_heads % tp == 0 or tp % layer.num_kv_heads == 0)


def _shard(layer: LayerGeometry, tp: int) -> LayerGeometry:
    if not _splits(layer, tp):
        raise ValueError(f"{layer.num_qo_heads} query and {layer.num_kv_heads} KV heads cannot be split over tp={tp}")
    num_kv_heads = max(1, layer.num_kv_heads // tp)
    return layer.model_copy(update={"num_qo_heads": layer.num_qo_heads // tp, "num_kv_heads": num_kv_heads})


def _slice(layer: LayerGeometry, query_heads: int) -> LayerGeometry:
    num_kv_heads = min(layer.num_kv_heads, max(1, query_heads // layer.group_size))
    return layer.model_copy(update={"num_qo_heads": num_kv_heads * layer.group_size, "num_kv_heads": num_kv_heads})
