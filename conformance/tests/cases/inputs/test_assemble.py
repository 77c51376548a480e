"""The batch: live tokens are where the tables say, dead slots hold what was asked, whatever the storage."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings

from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.case import Case, Layer, Paging, Poison
from attnconf.cases.drawing.space import Space
from attnconf.cases.drawing.strategies import cases, free_layers
from attnconf.cases.inputs.assemble import assemble
from attnconf.cases.inputs.batch import BatchRow
from attnconf.cases.inputs.guards import GUARD_BYTES
from attnconf.cases.inputs.layout import place
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.inputs.pages import pool_of
from attnconf.cases.inputs.poison import bits
from attnconf.cases.inputs.storage import by_token
from attnconf.cases.inputs.stored import parts_of
from attnconf.cases.recorded import NULL_PAGE
from attnconf.cases.request import Request
from attnconf.judging import execution
from attnconf.judging.execution import same_bits
from attnconf.judging.posed import PosedCase
from attnconf.judging.trial import Trial
from attnconf.oracle.packed import scaled
from attnconf.platforms import Platform

CPU = torch.device("cpu")
FREE = Space(name="free", layers=free_layers(), max_kv_len=60, max_new_tokens=5, past_window=False)
SETTINGS = settings(max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
LAYER = Layer(kind="full", num_qo_heads=4, num_kv_heads=2, head_dim=16, sm_scale=0.25)


def make(**changes: object) -> Case:
    given_case = {
        "mode": "decode",
        "layers": (LAYER,),
        "requests": (Request(prefix_len=20), Request(prefix_len=3)),
        "seed": 4,
    }
    return Case(**{**given_case, **changes})


@given(cases(FREE))
@SETTINGS
def test_every_live_token_is_where_the_layout_says_bit_for_bit(case: Case) -> None:
    posed = PosedCase(case, CPU)
    for index, cache in enumerate(posed.batch.caches):
        pool = pool_of(case, index)
        assert cache.pool == pool
        own = posed.logical.layers[index]
        rows = (*parts_of(own.k), *parts_of(own.v))
        pools = (cache.k, cache.k_block_scales, cache.v, cache.v_block_scales)
        for stored, logical in zip([pool for pool in pools if pool is not None], rows, strict=True):
            tokens = by_token(stored, case.paging.layout)
            for request, spec in enumerate(case.requests):
                for token in range(spec.kv_len):
                    page = posed.layout.page(pool, request, token)
                    if page != NULL_PAGE:
                        wanted = logical[posed.logical.kv_starts[request] + token]
                        assert same_bits(tokens[page, token % case.paging.page_size], wanted)


@given(cases(FREE))
@SETTINGS
def test_lengths_and_offsets_agree_on_host_and_device(case: Case) -> None:
    batch = PosedCase(case, CPU).batch
    assert batch.seq_lens.tolist() == list(batch.kv_lens)
    assert batch.qo_indptr.diff().tolist() == list(batch.q_lens)
    each = max(r.new_tokens for r in case.requests) if case.mode == "verify" else 1
    assert batch.num_rows == sum(r.new_tokens for r in case.requests) + case.padding_rows * each
    assert len(batch.layers[0].q) == batch.num_rows + case.query.slack_rows
    assert batch.max_seq_len >= max(batch.kv_lens)
    assert [layer.cache for layer in batch.layers] == [case.owner(index) for index in range(len(case.layers))]


@pytest.mark.parametrize("kind", ["zero", "huge", "inf", "nan"])
@pytest.mark.parametrize("storage", ["apart", "interleaved", "padded", "sliced", "unlike"])
@pytest.mark.parametrize("layout", ["NHD", "HND"])
def test_dead_slots_hold_their_poison_and_live_ones_do_not(kind: str, storage: str, layout: str) -> None:
    case = make(poison=Poison(k="zero", v=kind), paging=Paging(page_size=8, storage=storage, layout=layout))
    posed = PosedCase(case, CPU)
    cache = posed.batch.caches[0]
    values = by_token(cache.v, layout).float()
    live = torch.zeros(values.shape[:2], dtype=torch.bool)
    for request, spec in enumerate(case.requests):
        for token in range(spec.kv_len):
            live[posed.layout.page("full", request, token), token % 8] = True
    wanted = {"zero": 0.0, "huge": torch.finfo(torch.bfloat16).max, "inf": math.inf, "nan": math.nan}[kind]
    dead = values[~live]
    assert dead.numel() > 0
    assert bool((dead.isnan() if kind == "nan" else dead == wanted).all())
    assert bool((by_token(cache.k, layout)[~live] == 0).all())
    assert bool(torch.isfinite(values[live]).all())
    assert float(values[live].abs().max()) < 100


def test_stale_keys_are_baited() -> None:
    """A dead slot behind a request's last token would draw the attention of its last row."""
    case = make(requests=(Request(prefix_len=20),), poison=Poison(), paging=Paging(page_size=16))
    posed = PosedCase(case, CPU)
    page = posed.layout.page("full", 0, 20)
    keys = by_token(posed.batch.caches[0].k, "NHD")[page].float()
    q = posed.logical.layers[0].q[-1].float()
    scores = LAYER.sm_scale * torch.einsum("hd,shd->sh", q, keys.repeat_interleave(2, dim=1))
    assert float(scores[5:].amax(dim=1).min()) > math.log(21)


def test_every_slot_behind_each_request_is_aimed_at_that_requests_last_row() -> None:
    """Pages enough that no owned one is among the free ones that have bait, too."""
    requests = (Request(prefix_len=20), Request(prefix_len=3), Request(prefix_len=31), Request(prefix_len=40))
    posed = PosedCase(make(requests=requests, poison=Poison(), paging=Paging(page_size=16, slack_pages=80)), CPU)
    keys = by_token(posed.batch.caches[0].k, "NHD").float()
    for index, spec in enumerate(requests):
        if spec.kv_len % 16 == 0:
            continue
        tail = keys[posed.layout.page("full", index, spec.kv_len - 1)][spec.kv_len % 16 :]
        q = posed.logical.layers[0].q[index].float()
        scores = LAYER.sm_scale * torch.einsum("hd,shd->sh", q, tail.repeat_interleave(2, dim=1))
        assert float(scores.amax(dim=1).min()) > math.log(41)


@pytest.mark.parametrize(
    ("storage", "layout", "contiguous"),
    [
        ("apart", "NHD", True),
        ("apart", "HND", True),
        ("interleaved", "NHD", False),
        ("padded", "HND", False),
        ("sliced", "NHD", False),
    ],
)
def test_storages_share_memory_as_they_say(storage: str, layout: str, contiguous: bool) -> None:  # noqa: FBT001
    case = make(paging=Paging(page_size=8, storage=storage, layout=layout))
    cache = PosedCase(case, CPU).batch.caches[0]
    assert cache.k.is_contiguous() == contiguous
    one_allocation = cache.k.untyped_storage().data_ptr() == cache.v.untyped_storage().data_ptr()
    assert one_allocation == (storage in {"interleaved", "sliced"})
    assert cache.k.shape[1:] == ((8, 2, 16) if layout == "NHD" else (2, 8, 16))
    assert cache.k.stride() == cache.v.stride()


def test_logical_inputs_do_not_depend_on_placement_or_poison() -> None:
    one = make_logical(make())
    other = make_logical(
        make(
            paging=Paging(layout="HND", placement="high", storage="padded"),
            poison=Poison(k="nan", v="nan"),
        )
    )
    assert same_bits(one.layers[0].q, other.layers[0].q)
    assert same_bits(one.layers[0].k, other.layers[0].k)
    assert same_bits(one.layers[0].v, other.layers[0].v)


def test_the_same_case_gives_the_same_memory_and_another_seed_another() -> None:
    def memory(case: Case) -> list[torch.Tensor]:
        batch = assemble(case, place(case), make_logical(case), CPU)
        return [whole for _, whole in batch.memory()]

    pairs = list(zip(memory(make()), memory(make()), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not all(torch.equal(a, b) for a, b in zip(memory(make()), memory(make(seed=5)), strict=True))


def test_nothing_of_the_memory_is_left_to_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    """A redirected layer's own cache is read by nobody, and yet it holds the same bytes every time."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    case = make(layers=(LAYER, LAYER.model_copy(update={"kv_owner": 0})), paging=Paging(slack_pages=9))
    torch.use_deterministic_algorithms(mode=True)  # fills what is allocated with NaN
    try:
        caches = PosedCase(case, CPU).batch.caches
    finally:
        torch.use_deterministic_algorithms(mode=False)
    assert not any(stored.isnan().any() for cache in caches for stored in (cache.k, cache.v))


def test_a_shared_page_holds_one_token_s_key_for_both_requests() -> None:
    case = make(
        requests=(Request(prefix_len=20), Request(prefix_len=20, shares_with=0, shared_pages=2)),
        paging=Paging(page_size=8),
    )
    logical = make_logical(case)
    keys = logical.layers[0].k
    first, second = logical.kv_starts[0], logical.kv_starts[1]
    assert same_bits(keys[first : first + 16], keys[second : second + 16])
    assert not same_bits(keys[first + 16 : first + 20], keys[second + 16 : second + 20])


def test_fp8_keys_are_stored_bytes_and_scales_apply_in_the_question() -> None:
    layer = LAYER.model_copy(update={"k_scale": 0.5, "v_scale": 2.0})
    case = make(kv_dtype="float8_e4m3fn", layers=(layer,))
    logical = make_logical(case)
    problem = logical.problem(0, 0)
    assert logical.layers[0].k.dtype == torch.float8_e4m3fn
    assert torch.equal(scaled(problem.k, problem.k_scale), logical.layers[0].k[:21].double() * 0.5)
    assert torch.equal(problem.values, logical.layers[0].v[:21].double() * 2.0)


def test_a_derived_batch_takes_rows_pages_and_lengths_of_its_requests() -> None:
    case = make(
        mode="extend",
        requests=(Request(prefix_len=20, new_tokens=3), Request(new_tokens=2)),
        paging=Paging(page_size=8),
    )
    batch = PosedCase(case, CPU).batch
    derived = batch.derive([BatchRow(1, 0, 2, 2), BatchRow(0, 1, 3, 23, 8)], "extend")
    assert derived.q_lens == (2, 2)
    assert derived.kv_lens == (2, 15)
    assert derived.qo_indptr.tolist() == [0, 2, 4]
    assert derived.block_tables[1, :2].tolist() == batch.block_tables[0, 1:3].tolist()
    assert same_bits(derived.layers[0].q, batch.layers[0].q[[3, 4, 1, 2]])
    assert derived.caches is batch.caches


def test_memory_covers_the_space_between_pages() -> None:
    batch = PosedCase(make(paging=Paging(storage="padded", page_size=8)), CPU).batch
    names = dict(batch.memory())
    assert names["caches[0].k"].numel() > batch.caches[0].k.numel() * batch.caches[0].k.element_size()


@pytest.mark.parametrize("joined", [set(), {"cpu"}], ids=["one by one", "joined, as on a GPU"])
def test_a_changed_input_is_noticed(joined: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "_JOINED_ON", joined)
    posed = PosedCase(make(paging=Paging(storage="padded", page_size=8)), CPU)
    assert posed.changed_input() is None
    before = bits(posed.batch.caches[0].v).clone()
    whole = dict(posed.batch.memory())["caches[0].v"]
    whole[GUARD_BYTES + posed.batch.caches[0].v[0].numel() * 2 + 4] ^= 1
    assert torch.equal(bits(posed.batch.caches[0].v), before)
    assert posed.changed_input() == "caches[0].v"


def test_what_a_run_changes_is_seen_after_it() -> None:
    """The inputs are compared once after a run, not before every question about them."""
    posed = PosedCase(make(), CPU)
    trial = Trial(posed, ReferenceBackend(), Platform())
    trial.run(0)
    assert trial.changed_input() is None
    dict(posed.batch.memory())["qo_indptr"][0] += 1
    assert trial.changed_input() is None
    trial.prepare(posed.batch)
    assert trial.changed_input() == "qo_indptr"


def test_a_large_case_is_judged_where_it_runs_and_a_small_one_on_the_cpu() -> None:
    device = torch.device("meta")
    assert PosedCase(make(), device).oracle_device == CPU
    large = make(mode="extend", requests=(Request(prefix_len=60_000, new_tokens=100),))
    assert PosedCase(large, device).oracle_device == device


@pytest.mark.parametrize("storage", ["apart", "padded", "unlike", "interleaved", "sliced"])
@pytest.mark.parametrize("poison", ["nan", "stale"])
def test_pages_are_copied_under_other_ids_and_strides_with_what_is_dead_in_them(storage: str, poison: str) -> None:
    case = make(
        requests=(Request(prefix_len=20), Request(prefix_len=16, shares_with=0, shared_pages=2)),
        paging=Paging(page_size=8, slack_pages=3),
        poison=Poison(k=poison, v=poison),
        padding_rows=1,
    )
    posed = PosedCase(case, CPU)
    paging = case.paging.model_copy(update={"layout": "HND", "storage": storage, "table_slack": 2})
    layout = place(case, salt=1)
    beside = posed.beside(case.model_copy(update={"paging": paging}))
    for batch, under in ((posed.copied_batch(layout), layout), (beside.batch, beside.layout)):
        cache = batch.caches[0]
        k, v = (by_token(view, batch.kv_layout) for view in (cache.k, cache.v))
        page, slot = under.places("full")[1]
        assert same_bits(k[page, slot], posed.logical.layers[0].k)
        assert same_bits(v[page, slot], posed.logical.layers[0].v)
        assert same_bits(batch.queries(0), posed.batch.queries(0))
        dead = (under.tokens("full") < 0).view(len(k), -1)
        assert bool(k[dead].isnan().all()) == bool(v[dead].isnan().all()) == (poison == "nan")
        assert len(k) == under.num_pages["full"]
        if storage == "padded" and batch is beside.batch:
            gap = dict(batch.memory())["caches[0].k"][GUARD_BYTES:-GUARD_BYTES].view(cache.k.dtype)[k[0].numel() :][:64]
            assert bool(gap.isnan().all()) == (poison == "nan")
