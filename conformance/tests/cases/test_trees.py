"""Trees of draft tokens: what they may be, what their rows see, and how they are drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from attnconf.cases import trees
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.drawing.draws import Draws
from attnconf.cases.drawing.space import Space
from attnconf.cases.drawing.strategies import free_layers
from attnconf.cases.inputs.batch import BatchRow
from attnconf.cases.inputs.witnesses import plan_probes
from attnconf.cases.request import Request
from attnconf.cases.sight import follows_tree, seen
from attnconf.errors import InvalidInputError
from attnconf.judging.posed import PosedCase

FULL = Layer(kind="full", num_qo_heads=4, num_kv_heads=2, head_dim=64, sm_scale=0.125)
EAGLE = (-1, 0, 0, 1, 1, 2)
"""A root, its two children, and theirs."""

parents = st.integers(1, 12).flatmap(lambda count: st.tuples(*(st.integers(-1, token - 1) for token in range(count))))


def read(**request: Any) -> Case:  # noqa: ANN401 - any field
    layer = FULL.to_data()
    data = {"schema": "attnconf.case/1", "mode": "verify", "layers": [layer], "requests": [request]}
    return Case.from_data(data, "test")


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"new_tokens": 3, "tree": [-1, 0]}, "tree has a parent for each of the 3 new tokens, and not 2"),
        ({"new_tokens": 3, "tree": [-1, 1, 0]}, "the parent of token 1 is 1; allowed: -1 to 0"),
        ({"new_tokens": 2, "tree": [0, 0]}, "the parent of token 0 is 0; allowed: -1"),
        ({"new_tokens": 2, "tree": [-1, -2]}, "tree.1 is -2"),
        ({"new_tokens": 2, "tree": [-1, True]}, "tree.1 is True"),
        ({"new_tokens": 2, "tree": [-1, -1], "spans": [[0, 2]]}, "a request with a tree has no spans"),
    ],
)
def test_a_wrong_tree_is_one_sentence(request_: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(**request_)
    assert message in str(caught.value)


def test_trees_are_of_verify_steps_alone() -> None:
    with pytest.raises(ValueError, match="a tree of draft tokens belongs to mode verify, not extend"):
        Case(mode="extend", layers=(FULL,), requests=(Request(new_tokens=2, tree=(-1, -1)),))


def test_a_chain_has_one_form() -> None:
    chain = read(new_tokens=4, tree=[-1, 0, 1, 2])
    assert chain == read(new_tokens=4)
    assert "tree" not in str(chain.to_data())
    case = read(new_tokens=3, tree=[-1, 0, 0])
    assert Case.from_data(case.to_data(), "again") == case


@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [(6, EAGLE), (4, (-1, 0, 0, 1)), (2, ()), (0, ()), (8, (*EAGLE, 5, 6))],
)
def test_another_length_cuts_a_tree_or_makes_it_longer(tokens: int, wanted: tuple[int, ...]) -> None:
    request = Request(prefix_len=9, new_tokens=6, tree=EAGLE).resized(3, tokens)
    assert request.tree == wanted
    assert Request.model_validate(request.model_dump()) == request


def by_hand(tree: tuple[int, ...], token: int) -> set[int]:
    return set() if token < 0 else {token} | by_hand(tree, tree[token])


@given(parents, st.integers(0, 9), st.sampled_from([-1, 0, 1, 2, 5]), st.sampled_from([None, 2, 3]))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_a_row_sees_the_prefix_and_its_branch_as_far_as_its_position_allows(
    tree: tuple[int, ...], prefix: int, window: int, chunk: int | None
) -> None:
    kind = {"kind": "full"} if window < 0 else {"kind": "sliding", "window_left": window}
    layer = FULL.model_copy(update=kind if chunk is None else {"kind": "chunked", "chunk_size": chunk})
    request = Request(prefix_len=prefix, new_tokens=len(tree), tree=tree)
    for row in range(len(tree)):
        depth = len(by_hand(tree, row)) - 1
        place = {prefix + token: prefix + len(by_hand(tree, token)) - 1 for token in by_hand(tree, row)}
        keys = {key: key for key in range(prefix)} | place
        allowed = {
            key
            for key, position in keys.items()
            if (chunk is not None or window < 0 or position >= prefix + depth - window)
            and (chunk is None or position // chunk == (prefix + depth) // chunk)
        }
        found = seen(layer, request, row)
        assert set(range(found.first, found.last + 1)) - set(found.hidden) == allowed
        assert found.keys == len(allowed)
        assert found.position == prefix + row


def test_a_batch_has_the_mask_and_the_depths_of_every_row() -> None:
    case = Case(
        mode="verify",
        layers=(FULL,),
        requests=(
            Request(prefix_len=9, new_tokens=6, tree=EAGLE),
            Request(prefix_len=5, new_tokens=0),
            Request(prefix_len=5, new_tokens=3),
        ),
        padding_rows=1,
        paging=Paging(page_size=8),
    )
    batch = PosedCase(case, torch.device("cpu")).batch
    assert batch.tree_mask is not None
    assert batch.row_depths is not None
    assert batch.row_depths.tolist() == [0, 1, 1, 2, 2, 2, 0, 1, 2, 0, 1, 2, 3, 4, 5]
    rows = [[column for column, seen in enumerate(row) if seen] for row in batch.tree_mask.tolist()]
    assert rows[:6] == [[0], [0, 1], [0, 2], [0, 1, 3], [0, 1, 4], [0, 2, 5]]
    assert rows[6:] == [list(range(row + 1)) for row in (0, 1, 2, 0, 1, 2, 3, 4, 5)]
    alone = batch.derive([BatchRow(2, 0, 3, 8)], "verify")
    assert alone.tree_mask is not None
    assert alone.tree_mask.tolist() == [[True, False, False], [True, True, False], [True, True, True]]
    with pytest.raises(ValueError, match="a tree without its first rows is none"):
        batch.derive([BatchRow(0, 2, 6, 15)], "verify")
    plain = case.model_copy(update={"requests": case.requests[2:]})
    assert PosedCase(plain, torch.device("cpu")).batch.tree_mask is None


def test_siblings_and_parents_have_probes() -> None:
    request = Request(prefix_len=40, new_tokens=6, tree=EAGLE)
    case = Case(mode="verify", layers=(FULL,), requests=(request,))
    probes = plan_probes(case, 0)
    assert {probe.name for probe in probes} >= {"parent", "sibling", "cousin"}
    for probe in probes:
        found = seen(FULL, request, probe.row)
        visible = found.first <= probe.token <= found.last and probe.token not in found.hidden
        assert visible is probe.required, probe


def test_every_kind_of_tree_is_drawn_in_verify_steps_alone() -> None:
    space = Space(name="free", layers=free_layers(), max_kv_len=90, max_new_tokens=8)
    cases = [case for case in Draws(space, 3, 320).cases if follows_tree(case.requests)]
    assert {case.mode for case in cases} == {"verify"}
    drawn = [one.tree for case in cases for one in case.requests if one.tree]
    assert any(set(tree[1:]) == {0} for tree in drawn)
    assert any(set(tree) == {-1} for tree in drawn)
    assert any(max(trees.depths(tree)) > 1 for tree in drawn)
    assert not any(trees.is_chain(tree) for tree in drawn)
    assert any(not one.tree for case in cases for one in case.requests)
