"""A case is a value: it survives JSON and its repr, keeps its id, and refuses nonsense in one sentence."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from pydantic import ValidationError

from attnconf.cases import case as case_module
from attnconf.cases.case import Case, Layer, Paging, Poison
from attnconf.cases.drawing.space import Space
from attnconf.cases.drawing.strategies import cases, free_layers
from attnconf.cases.request import Request
from attnconf.cases.shape import kernel_shape
from attnconf.errors import InvalidInputError

FREE = Space(name="free", layers=free_layers(), max_kv_len=60, max_new_tokens=5)
FULL = {"kind": "full", "num_qo_heads": 4, "num_kv_heads": 2, "head_dim": 16, "sm_scale": 0.25}
FP8_KV = {"kv_dtype": "float8_e4m3fn"}
E5M2_KV = {"kv_dtype": "float8_e5m2"}
SLIDING = {**FULL, "kind": "sliding", "window_left": 7}
NAMES = {name: getattr(case_module, name) for name in ("Case", "Layer", "Paging", "Poison", "QuerySide", "Request")}


def make(**changes: object) -> Case:
    return Case(**{"mode": "decode", "layers": (Layer(**FULL),), "requests": (Request(prefix_len=20),), **changes})


@given(cases(FREE))
@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
def test_json_and_repr_give_the_same_case_back(case: Case) -> None:
    assert Case.from_data(json.loads(json.dumps(case.to_data())), "test") == case
    pasted = eval(repr(case), NAMES)  # noqa: S307 - that it can be pasted is the point
    assert pasted == case
    assert pasted.id == case.id


def test_the_id_is_pinned() -> None:
    assert make().id == "fef3fcaf2959"
    case = make(
        mode="verify",
        q_dtype="float16",
        kv_dtype="float8_e4m3fn",
        layers=(Layer(**SLIDING, k_scale=0.5, v_scale=1.5), Layer(**SLIDING, kv_owner=0, sinks=True)),
        requests=(
            Request(prefix_len=40, new_tokens=3),
            Request(prefix_len=33, new_tokens=3, shares_with=0, shared_pages=2),
        ),
        paging=Paging(layout="HND", hybrid=True, reclaimed=True),
        poison=Poison(k="nan", v="nan"),
        seed=9,
    )
    assert case.id == "f8dd57c7e6c9"


def test_the_id_does_not_depend_on_the_process() -> None:
    code = f"from attnconf.cases.case import *; print({make(seed=3)!r}.id)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own text
    assert done.stdout.strip() == make(seed=3).id


def test_the_id_ignores_spelled_out_defaults_and_notices_everything_else() -> None:
    assert make(seed=0, paging=Paging(page_size=16)).id == make().id
    others = [make(seed=1), make(poison=Poison(k="zero")), make(paging=Paging(page_size=8)), make(model="x")]
    assert len({make().id, *(other.id for other in others)}) == 5


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"kv_dtype": "float16"}, "must be the q_dtype bfloat16, float8_e4m3fn, float8_e5m2 or nvfp4"),
        ({"q_dtype": "float32", "kv_dtype": "float8_e4m3fn"}, "float8_e4m3fn needs a q_dtype of 16 or 8 bits"),
        ({"q_dtype": "float32", "kv_dtype": "float8_e5m2"}, "float8_e5m2 needs a q_dtype of 16 bits"),
        (
            {**E5M2_KV, "q_dtype": "float8_e4m3fn"},
            "q_dtype float8_e4m3fn needs kv_dtype float8_e4m3fn or nvfp4, not float8_e5m2",
        ),
        ({**E5M2_KV, "out_dtype": "float8_e4m3fn"}, "must be the q_dtype bfloat16, since KV is not float8_e4m3fn"),
        ({"q_dtype": "float8_e4m3fn", "out_dtype": "bfloat16"}, "q_dtype float8_e4m3fn needs kv_dtype float8_e4m3fn"),
        ({**FP8_KV, "q_dtype": "float8_e4m3fn"}, "needs an out_dtype of float16, bfloat16 or float8_e4m3fn"),
        ({**FP8_KV, "q_dtype": "float8_e4m3fn", "out_dtype": "float32"}, "needs an out_dtype of float16"),
        ({**FP8_KV, "out_dtype": "float16"}, "out_dtype float16 must be bfloat16 or float8_e4m3fn"),
        ({"out_dtype": "float8_e4m3fn"}, "must be the q_dtype bfloat16, since KV is not float8_e4m3fn"),
        ({"out_dtype": "bfloat16"}, "out_dtype bfloat16 is that of the query: it is left out"),
        ({"layers": (Layer(**FULL, q_scale=2.0),)}, "q_scale belongs to KV of 8 or 4 bits, not to bfloat16"),
        ({"layers": (Layer(**FULL, out_scale=2.0),)}, "out_scale belongs to KV of 8 or 4 bits, not to bfloat16"),
        ({"layers": (Layer(**FULL, k_scale=2.0),)}, "k_scale and v_scale belong to KV of 8 or 4 bits"),
        ({"kv_dtype": "float8_e4m3fn", "poison": Poison(v="inf")}, "float8_e4m3fn has no infinity"),
        ({"requests": (Request(new_tokens=2),)}, "mode decode has exactly 1 new token"),
        ({"mode": "verify"}, "mode verify has at most 64 new tokens in every request, and several in one at least"),
        ({"mode": "verify", "requests": (Request(new_tokens=65),)}, "mode verify has at most 64 new tokens"),
        ({"mode": "mixed"}, "mode mixed has a request with 1 new token and one with more"),
        (
            {"mode": "extend", "requests": (Request(prefix_len=3, new_tokens=0),)},
            "at least one request needs a new token",
        ),
        ({"requests": (Request(prefix_len=20, shared_pages=1),)}, "request 0: shared_pages without shares_with"),
        ({"requests": (Request(prefix_len=20, shares_with=0),)}, "request 0: shares_with 0 is not an earlier request"),
        (
            {"requests": (Request(prefix_len=20), Request(prefix_len=40, shares_with=0, shared_pages=2))},
            "request 1: 2 shared pages exceed the prefix",
        ),
        ({"paging": Paging(reclaimed=True)}, "paging.reclaimed needs paging.hybrid"),
        ({"mode": "extend", "padding_rows": 1}, "padding_rows belong to modes decode and verify, not extend"),
        ({"layers": (Layer(**FULL, kv_owner=0),)}, "layer 0: kv_owner 0 is not an earlier layer"),
        (
            {"layers": (Layer(**FULL), Layer(**SLIDING, kv_owner=0))},
            "a sliding layer cannot read the KV of the full layer 0",
        ),
        ({"layers": ()}, "at least 1 item"),
        ({"requests": ()}, "at least 1 item"),
        ({"paging": {"page_size": 0}}, "greater than 0"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"colour": "red"}, "Extra inputs are not permitted"),
    ],
)
def test_nonsense_is_refused_with_its_reason(changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError) as caught:
        make(**changes)
    assert sentence in str(caught.value)


def test_a_bad_file_names_itself_and_the_field() -> None:
    with pytest.raises(InvalidInputError) as caught:
        Case.from_data({**make().to_data(), "mode": "prefill"}, "bad.json")
    assert str(caught.value).startswith("bad.json")
    assert "mode" in str(caught.value)


def test_the_shape_of_a_layer_holds_what_picks_a_kernel() -> None:
    case = make(
        mode="extend", layers=(Layer(**SLIDING, sinks=True),), requests=(Request(new_tokens=3), Request(new_tokens=5))
    )
    shape = kernel_shape(case, 0)
    assert (shape.max_q_len, shape.windowed, shape.sinks, shape.soft_cap) == (5, True, True, False)
    assert shape.group_size == 2
