"""Merging receipts: in any order, however often, whatever is merged first; and 2,000 fuzzed ones at the gate."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnconf.cli import main as cli
from attnconf.errors import InvalidInputError
from attnconf.gate.evidence import Evidence, evidence_of, parse_evidence
from attnconf.gate.plans.fleet import parse_fleet
from attnconf.gate.plans.fleet_plan import plan_fleet
from attnconf.gate.receipt import Receipt
from attnconf.gate.sealed import TamperedError, seal
from attnconf.policy.policy import parse_policy
from conformance.tests.support.gate_receipts import receipt_of
from conformance.tests.support.gate_repository import AFTER, FLEET

SHA = "0" * 40
PLAN = plan_fleet(parse_policy(AFTER, "after"), parse_fleet(FLEET, "fleet"), SHA)


def variants() -> list[Receipt]:
    """Return receipts of both jobs, some with and some without a digest; two are twins but for theirs."""
    made = [receipt_of(PLAN, job, seed=seed) for job in ("cpu", "b200") for seed in (0, 1)]
    return [*made, *(one.model_copy(update={"digest": one.identity}) for one in made)]


evidence = st.lists(st.sampled_from(variants()), max_size=6).map(evidence_of)


@given(evidence, evidence)
def test_merging_commutes(a: Evidence, b: Evidence) -> None:
    assert a | b == b | a


@given(evidence, evidence, evidence)
def test_merging_associates(a: Evidence, b: Evidence, c: Evidence) -> None:
    assert (a | b) | c == a | (b | c)


@given(evidence, evidence)
def test_merging_again_changes_nothing(a: Evidence, b: Evidence) -> None:
    assert a | a == a
    assert (a | b) | b == a | b
    assert a | Evidence() == a


@given(evidence, evidence)
def test_nothing_is_lost_and_nothing_is_sealed_on_the_way(a: Evidence, b: Evidence) -> None:
    parts = {one.identity for one in (*a.receipts, *b.receipts)}
    merged = a | b
    assert [one.identity for one in merged.receipts] == sorted(parts)
    sealed = {one.identity for one in (*a.receipts, *b.receipts) if one.digest is not None}
    assert {one.identity for one in merged.receipts if one.digest is not None} == sealed


@given(evidence)
def test_evidence_is_written_and_read_back(a: Evidence) -> None:
    text = json.dumps(a.to_data())
    assert parse_evidence(text, "test") == a.model_copy(update={"digest": a.identity})


def test_a_part_that_was_edited_is_noticed_though_the_whole_is_sealed_again() -> None:
    data = evidence_of(variants()[4:6]).to_data()
    data["receipts"][0]["seconds"] = 1.0
    data["digest"] = seal(data)
    with pytest.raises(TamperedError, match="edited after it was written"):
        parse_evidence(json.dumps(data), "test")
    data["receipts"] = data["receipts"][:1] * 2
    with pytest.raises(InvalidInputError):
        parse_evidence(json.dumps({**data, "digest": None}), "test")


ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 7, 10**30, 0.5, float("nan"), [], {}, "", "\x1b[31m\n", "\ud800", "inf", "9.0", "decode",
    "full", "cpu", "b200", "trtllm_mha", "triton", "0" * 40, "0" * 64, "x" * 9000,
)  # fmt: skip


def mutate(rng: random.Random, data: dict[str, Any]) -> None:
    """Change, drop or add something somewhere; half of the time seal the result again, as a forger would."""
    for _ in range(rng.randrange(1, 4)):
        cells = data["cells"] if isinstance(data.get("cells"), list) else [{}]
        places = (data, data.get("platform"), data.get("policy"), *cells, *cells)
        place = rng.choice([one for one in places if isinstance(one, dict) and one])
        name = rng.choice(list(place))
        match rng.randrange(5):
            case 0:
                del place[name]
            case 1 if cells:
                cells.remove(rng.choice(cells))
            case 2 if cells:
                cells.append({**rng.choice(cells), "mode": rng.choice(("decode", "mixed"))})
            case _:
                place[name] = rng.choice((0, 1, 3, *ODD))
    if rng.randrange(2):
        data["digest"] = None if "NaN" in json.dumps(data) else seal(data)


def proves(data: dict[str, Any]) -> bool:
    """Whether a receipt's raw JSON is green in the eyes of someone who knows the fixed plan, and not attnconf."""
    where = data["platform"]
    right = (data["git_sha"], data["plan"], data["job"], where["sm"], where["cuda"], where["flashinfer"])
    if right != (SHA, PLAN.identity, "b200", "10.0", "13.0", "0.6.13") or where.get("simulated", False):
        return False
    if data["exit_status"] != 0 or data["policy"]["digest"] != PLAN.policy.digest or data["digest"] != seal(data):
        return False
    if any(cell[name] for cell in data["cells"] for name in ("failed", "refused", "crashed", "oom")):
        return False
    for wanted in PLAN.job_named("b200").cells:
        found = [
            cell
            for cell in data["cells"]
            if (cell["backend"], cell["model"].partition("@")[0], cell["layer_kind"], cell["mode"])
            == (wanted.backend, wanted.model, wanted.layer_kind, wanted.mode)
        ]
        if sum(cell["passed"] for cell in found) < 1:
            return False
        if any(all(name not in cell["features"] for cell in found) for name in wanted.effective):
            return False
    return True


@pytest.mark.usefixtures("one_parser")
def test_2000_fuzzed_receipts_give_no_traceback_and_no_wrong_green(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = random.Random(11)  # noqa: S311 - a fuzz that repeats
    (tmp_path / "policy.toml").write_text(AFTER)
    PLAN.write(tmp_path / "plan.json")
    cpu, fuzzed = tmp_path / "cpu.json", tmp_path / "fuzzed.json"
    receipt_of(PLAN, "cpu").write(cpu)
    whole = json.dumps(receipt_of(PLAN, "b200").to_data())
    call = ["verify", "--policy", str(tmp_path / "policy.toml"), "--plan", str(tmp_path / "plan.json"), "--sha", SHA]
    seen = {0: 0, 10: 0}
    for index in range(2000):
        if index % 10 == 0:  # not even JSON, or not whole
            cut = rng.randrange(len(whole))
            text = whole[:cut] + rng.choice(("", "\x00", "]", '"', "1", "}")) + whole[cut + rng.randrange(3) :]
        else:
            data = json.loads(whole)
            if index % 100 != 1:  # else as it was
                mutate(rng, data)
            text = json.dumps(data)
        fuzzed.write_text(text)
        capsys.readouterr()
        status = cli.main([*call, str(cpu), str(fuzzed)])
        out, err = capsys.readouterr()
        seen[status] += 1
        assert err == ""
        assert (status == 10) is ("NOT MET" in out)
        if status == 0:
            assert proves(json.loads(text)), text
    assert seen[0] >= 20, seen
    assert seen[10] >= 1000, seen
