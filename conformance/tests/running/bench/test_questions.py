"""What is timed: sizes that serving runs, and the work of a launch, counted key by key."""

from __future__ import annotations

import pytest

from attnconf.cases.case import Case, Layer
from attnconf.cases.models import credited_model, load_model
from attnconf.cases.request import Request
from attnconf.running.bench.questions import Place, Question, Shape, ask
from attnconf.running.bench.sizes import MODES, sized_requests
from attnconf.running.bench.work import work


def _case(window: int, *requests: Request, mode: str = "extend") -> Case:
    kind = "full" if window < 0 else "sliding"
    layer = Layer(kind=kind, window_left=window, num_qo_heads=4, num_kv_heads=2, head_dim=8, sm_scale=1.0)
    return Case.model_validate({"mode": mode, "layers": (layer,), "requests": requests})


@pytest.mark.parametrize("window", [-1, 0, 1, 3, 7, 100])
@pytest.mark.parametrize(("prefix", "tokens"), [(0, 1), (0, 5), (3, 4), (9, 1), (20, 11), (2, 9)])
def test_the_work_of_a_launch_is_that_of_every_pair_that_counts(window: int, prefix: int, tokens: int) -> None:
    requests = (Request(prefix_len=prefix, new_tokens=tokens), Request(prefix_len=5, new_tokens=2))
    case = _case(window, *requests)
    pairs, keys = 0, 0
    for request in requests:
        seen = set()
        for position in range(request.prefix_len, request.kv_len):
            visible = {key for key in range(position + 1) if window < 0 or key >= position - window}
            pairs += len(visible)
            seen |= visible
        keys += len(seen)
    rows = tokens + 2
    assert work(case, 0) == (2 * rows * 4 * 8 * 2 + 2 * keys * 2 * 8 * 2, 4 * pairs * 4 * 8)


def test_eight_bit_keys_are_half_the_bytes() -> None:
    case = _case(-1, Request(prefix_len=99), mode="decode")
    small = case.model_copy(update={"kv_dtype": "float8_e4m3fn"})
    assert work(case, 0)[0] - work(small, 0)[0] == 2 * 100 * 2 * 8


def test_sizes_are_those_that_serving_runs_and_drawn_the_same_again() -> None:
    layers = load_model("gemma4-e2b").case_layers()
    for mode in MODES:
        few = sized_requests(mode, layers, few=True, seed=0)
        every = sized_requests(mode, layers, few=False, seed=0)
        assert few == sized_requests(mode, layers, few=True, seed=0)
        assert 1 <= len(few) < len(every)
        assert len({text for text, _ in every}) == len(every)
        assert {text for text, _ in few} <= {text for text, _ in every}
    (text, requests), *_ = sized_requests("decode", layers, few=True, seed=0)
    assert len(requests) == 64
    assert all(2000 <= one.prefix_len <= 4000 for one in requests)
    assert text.startswith("64 requests of 2")
    assert {one.new_tokens for _, some in sized_requests("verify", layers, few=True, seed=0) for one in some} == {4}
    longest = max(one.new_tokens for _, some in sized_requests("extend", layers, few=False, seed=0) for one in some)
    assert longest == 8192


def test_a_question_is_about_one_layer_of_the_real_model_for_every_baseline() -> None:
    places = [Place("gemma4-e2b", kind, "decode") for kind in ("sliding", "full", "full-shared")]
    found = ask(places, "trtllm_mha", ["triton", "flashinfer_fa2"], Shape(), few=True, seed=0)
    assert len(found) == 6
    assert [one.baseline for one in found[:2]] == ["triton", "flashinfer_fa2"]
    assert found[0].case == found[1].case
    for one in found:
        assert credited_model(one.case) == "gemma4-e2b"
    assert [one.case.layers[one.layer].cell_kind for one in found[::2]] == ["sliding", "full", "full-shared"]
    assert len(found[-1].case.layers) == 2
    assert not ask([Place("llama3-8b", "sliding", "decode")], "a", ["b"], Shape(), few=True, seed=0)
    sharded = ask(places[:1], "a", ["b"], Shape(tp=2, page_size=16), few=True, seed=0)[0]
    assert (sharded.case.model, sharded.case.paging.page_size) == ("gemma4-e2b@tp2", 16)
    assert sharded.case.paging.storage == "interleaved"
    assert isinstance(sharded, Question)
