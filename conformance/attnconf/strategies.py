"""Hypothesis strategies for cases: biased to borders, shrinking to one request, one page, one head.

A strategy draws only what is asked of it; nothing is filtered away. Importable without pytest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from attnconf.case import MAX_VERIFY_TOKENS, Case, Layer, Paging, Poison, Request
from attnconf.lengths import BETWEEN

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hypothesis.strategies import DrawFn, SearchStrategy

    from attnconf.case import KVDtype, Mode, PoisonKind, QDtype
    from attnconf.geometry import LayerGeometry

PAGE_SIZES = (1, 2, 3, 8, 16, 32, 64, 128, 256)
HEAD_DIMS = (16, 32, 64, 80, 96, 128, 192, 256, 512)
GROUP_SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 16)
WINDOWS = (0, 1, 3, 15, 16, 17, 31, 63, 64, 65, 127, 128, 200)
SOFT_CAPS = (5.0, 20.0, 30.0, 50.0)
KV_SCALES = (0.5, 0.25, 0.4, 1.5, 2.0)
DTYPES: tuple[tuple[QDtype, KVDtype], ...] = (
    ("float32", "float32"),
    ("float16", "float16"),
    ("bfloat16", "bfloat16"),
    ("bfloat16", "float8_e4m3fn"),
    ("float16", "float8_e4m3fn"),
)
MODES: tuple[Mode, ...] = ("decode", "extend", "mixed", "verify")
VERIFY_LENS = tuple(range(2, MAX_VERIFY_TOKENS + 1))
_BORDERS = (1, 2, 16, 32, 64, 128, 256, 512)
_PAST_WINDOW = 200


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What is compiled into kernels: layers, page size and dtypes, drawn together where each one costs a build."""

    layers: tuple[Layer, ...]
    page_size: int
    q_dtype: QDtype
    kv_dtype: KVDtype


@dataclass(frozen=True, kw_only=True)
class Space:
    """The cases that a campaign draws from.

    ``layers`` is the strategy of a case's layers; ``past_window`` gives every case a request longer than the longest
    window, so that each window masks keys. ``hybrid`` None leaves the pools free; ``max_kv_len`` bounds lengths where
    no window asks for more. With a ``long_kv_len`` above 0 one request has that many keys or up to a page more, and
    the others are short or between; ``lengths.shortened`` then shrinks what fails.
    """

    name: str
    layers: SearchStrategy[tuple[Layer, ...]]
    model: str = "free"
    modes: tuple[Mode, ...] = MODES
    dtypes: tuple[tuple[QDtype, KVDtype], ...] = DTYPES
    page_sizes: tuple[int, ...] = PAGE_SIZES
    max_requests: int = 3
    max_kv_len: int = 300
    long_kv_len: int = 0
    max_new_tokens: int = 24
    past_window: bool = True
    hybrid: bool | None = None
    shapes: SearchStrategy[Shape] | None = None
    verify_lens: tuple[int, ...] = VERIFY_LENS


def model_layers(layers: Sequence[LayerGeometry]) -> SearchStrategy[tuple[Layer, ...]]:
    """Draw the given layers as they are; only the scales of quantised KV are added later."""
    return st.just(tuple(Layer.model_validate(layer.model_dump()) for layer in layers))


@st.composite
def free_layers(draw: DrawFn) -> tuple[Layer, ...]:
    """Draw one to three layers of any geometry: now and then a redirected one, or two that one kernel serves."""
    layers = [_free_layer(draw)]
    if draw(st.booleans()):
        layers.append(_same_kernel(draw, layers[0]) if draw(st.booleans()) else _free_layer(draw))
    if draw(st.booleans()):
        owner = draw(st.integers(0, len(layers) - 1))
        layers.append(_same_kernel(draw, layers[owner]).model_copy(update={"kv_owner": owner}))
    return tuple(layers)


def _same_kernel(draw: DrawFn, layer: Layer) -> Layer:
    """Return a layer of the same compile-time shape: only what a kernel gets at each call differs."""
    changed: dict[str, object] = {"sm_scale": draw(_sm_scales(layer.head_dim))}
    if layer.kind == "sliding":
        changed["window_left"] = draw(st.sampled_from(WINDOWS))
    if layer.logits_soft_cap is not None:
        changed["logits_soft_cap"] = draw(st.sampled_from(SOFT_CAPS))
    return layer.model_copy(update=changed)


def _sm_scales(head_dim: int) -> SearchStrategy[float]:
    return st.sampled_from((head_dim**-0.5, 1.0, 0.1))


def _free_layer(draw: DrawFn) -> Layer:
    window = draw(st.one_of(st.just(-1), st.sampled_from(WINDOWS)))
    head_dim = draw(st.sampled_from(HEAD_DIMS))
    num_kv_heads = draw(st.integers(1, 3))
    return Layer(
        kind="full" if window < 0 else "sliding",
        window_left=window,
        num_kv_heads=num_kv_heads,
        num_qo_heads=num_kv_heads * draw(st.sampled_from(GROUP_SIZES if num_kv_heads < 3 else GROUP_SIZES[:4])),  # noqa: PLR2004
        head_dim=head_dim,
        sm_scale=draw(_sm_scales(head_dim)),
        logits_soft_cap=draw(st.one_of(st.none(), st.sampled_from(SOFT_CAPS))),
        sinks=draw(st.booleans()),
    )


@st.composite
def cases(draw: DrawFn, space: Space) -> Case:
    """Draw one case of ``space``."""
    shape = draw(space.shapes if space.shapes is not None else _any_shape(space))
    layers, page_size, q_dtype, kv_dtype = shape.layers, shape.page_size, shape.q_dtype, shape.kv_dtype
    mode = draw(st.sampled_from(space.modes))
    if kv_dtype == "float8_e4m3fn":
        layers = tuple(_scaled(draw, layer) for layer in layers)
    windows = [layer.window_left for layer in layers if layer.kind == "sliding"]
    requests = _requests(draw, space, mode, page_size, windows)
    paging = _paging(draw, space, page_size, windows, all_sliding=len(windows) == len(layers))
    padding_rows = draw(st.sampled_from((0, 1, 3))) if mode == "decode" else 0
    return Case(
        model=space.model,
        mode=mode,
        q_dtype=q_dtype,
        kv_dtype=kv_dtype,
        layers=layers,
        requests=requests,
        paging=paging,
        padding_rows=padding_rows,
        padding_kv_len=draw(st.integers(0, 1)) if padding_rows else 0,
        poison=draw(_poison(kv_dtype)),
        seed=draw(st.integers(0, 2**31 - 1)),
    )


def _poison(kv_dtype: KVDtype) -> SearchStrategy[Poison]:
    """Draw what lies in dead slots: half of the time what every backend must bear, so that each is asked enough.

    The check of clause 6 asks every case again with all that a backend promises to bear.
    """
    calm: tuple[PoisonKind, ...] = ("stale", "zero")
    harsh: tuple[PoisonKind, ...] = ("huge", "nan") if kv_dtype == "float8_e4m3fn" else ("huge", "inf", "nan")
    calm_pairs = [Poison(k=k, v=v) for k in calm for v in calm]
    pairs = [Poison(k=k, v=v) for k in calm + harsh for v in calm + harsh if k in harsh or v in harsh]
    return st.sampled_from(calm_pairs * (len(pairs) // len(calm_pairs)) + pairs)


@st.composite
def _any_shape(draw: DrawFn, space: Space) -> Shape:
    layers = draw(space.layers)
    q_dtype, kv_dtype = draw(st.sampled_from(space.dtypes))
    page_size = draw(st.sampled_from(space.page_sizes))
    return Shape(layers=layers, page_size=page_size, q_dtype=q_dtype, kv_dtype=kv_dtype)


def _scaled(draw: DrawFn, layer: Layer) -> Layer:
    k_scale = draw(st.sampled_from(KV_SCALES))
    v_scale = draw(st.sampled_from([scale for scale in KV_SCALES if scale != k_scale]))
    return layer.model_copy(update={"k_scale": k_scale, "v_scale": v_scale})


def _requests(draw: DrawFn, space: Space, mode: Mode, page_size: int, windows: list[int]) -> tuple[Request, ...]:
    least = 2 if mode == "mixed" else 1
    count = draw(st.integers(least, max(least, space.max_requests)))
    tokens = _new_tokens(draw, space, mode, count)
    asked = [index for index, new_tokens in enumerate(tokens) if new_tokens]
    reach = space.long_kv_len
    past_window = bool(windows) and space.past_window
    longest = draw(st.sampled_from(asked)) if reach or past_window else -1
    requests: list[Request] = []
    for index, new_tokens in enumerate(tokens):
        if index == longest and reach:
            least = max(windows) + 2 if past_window else 1
            kv_len = max(least, reach + draw(st.sampled_from(sorted({0, 1, page_size - 1, page_size}))))
        elif index == longest:
            kv_len = max(windows) + 1 + draw(st.integers(1, _PAST_WINDOW))
        else:
            kv_len = draw(_lengths(page_size, windows, space.max_kv_len, reach))
        prefix_len = max(0, kv_len - new_tokens)
        requests.append(_shared(draw, requests, prefix_len, new_tokens, page_size))
    return tuple(requests)


def _new_tokens(draw: DrawFn, space: Space, mode: Mode, count: int) -> list[int]:
    if mode == "decode":
        return [1] * count
    if mode == "verify":
        return [draw(st.sampled_from(space.verify_lens))] * count
    most = space.max_new_tokens
    if mode == "mixed":
        rest = draw(st.lists(st.integers(0, most), min_size=count - 2, max_size=count - 2))
        tokens = [1, draw(st.integers(2, most)), *rest]
        return draw(st.permutations(tokens))
    lengths = st.one_of(st.integers(1, most), st.sampled_from([n for n in (1, 2, 8, 15, 16, 17) if n <= most]))
    return [draw(lengths), *draw(st.lists(st.one_of(st.just(0), lengths), min_size=count - 1, max_size=count - 1))]


def _lengths(page_size: int, windows: list[int], most: int, reach: int = 0) -> SearchStrategy[int]:
    """Draw a length at, or one to either side of, a border of pages, tiles or windows; or any length.

    Beside a request of ``reach`` keys, one in two is at a rung below it.
    """
    borders = {*_BORDERS, page_size, 2 * page_size, *(window + 1 for window in windows)}
    around = sorted({border + step for border in borders for step in (-1, 0, 1) if 1 <= border + step <= most})
    short = st.one_of(st.integers(1, most), st.sampled_from(around))
    between = [rung + step for rung in BETWEEN if rung < reach for step in (-1, 0, 1)]
    return st.booleans().flatmap(lambda far: st.sampled_from(between) if far else short) if between else short


def _shared(draw: DrawFn, earlier: list[Request], prefix_len: int, new_tokens: int, page_size: int) -> Request:
    if not earlier or not draw(st.booleans()):
        return Request(prefix_len=prefix_len, new_tokens=new_tokens)
    owner = draw(st.integers(0, len(earlier) - 1))
    pages = min(prefix_len, earlier[owner].prefix_len) // page_size
    if pages == 0:
        return Request(prefix_len=prefix_len, new_tokens=new_tokens)
    return Request(
        prefix_len=prefix_len, new_tokens=new_tokens, shares_with=owner, shared_pages=draw(st.integers(1, pages))
    )


def _paging(draw: DrawFn, space: Space, page_size: int, windows: list[int], *, all_sliding: bool) -> Paging:
    hybrid = bool(windows) and (draw(st.booleans()) if space.hybrid is None else space.hybrid)
    return Paging(
        page_size=page_size,
        placement=draw(st.sampled_from(("random", "identity", "reversed", "fragmented", "high"))),
        extra_columns=draw(st.sampled_from((0, 1, 5))),
        table_tail=draw(st.sampled_from(("null", "stale", "invalid"))),
        slack_pages=draw(st.sampled_from((0, 1, 2, 7))),
        hybrid=hybrid,
        reclaimed=(hybrid or all_sliding) and draw(st.booleans()),
        layout=draw(st.sampled_from(("NHD", "HND"))),
        storage=draw(st.sampled_from(("apart", "interleaved", "padded", "sliced"))),
    )
