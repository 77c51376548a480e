"""The backtest: its table, its loading of releases, its verdicts and its page, without any release."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

import pytest

from attnconf.cases.drawing.families import FAMILIES
from attnconf.cases.models import FREE_MODEL, shipped_models
from attnconf.errors import InvalidInputError
from ci.backtest.__main__ import RESULT, main
from ci.backtest.adapters.onnx_model import FLOAT, one_operator
from ci.backtest.loading import load
from ci.backtest.outcome import Backtest, Find, Outcome, Side
from ci.backtest.page import headline, page
from ci.backtest.releases import prepare, wheel_digest
from ci.backtest.running import Plan, run_entry
from ci.backtest.table import TABLE, read_table

if TYPE_CHECKING:
    from pathlib import Path

    from ci.backtest.table import Table

_BUG = """\
schema = "attnconf.backtest/1"
chosen = "by hand"

[[entries]]
id = "toy"
bug = "one key too many"
project = "some/project"
number = "#1"
package = "toy-package"
broken = "1.0"
fixed = "1.1"
adapter = "toy"
families = ["free"]
models = ["free"]
clauses = [2]
source = "both wheels"
"""


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    path = tmp_path / "entries.toml"
    path.write_text(_BUG, encoding="utf-8")
    return path


def test_every_entry_names_an_adapter_that_is_there_and_families_and_models_of_the_suite() -> None:
    folder = TABLE.parent / "adapters"
    for entry in read_table().entries:
        module, _, function = entry.adapter.partition(":")
        if entry.machine == "cpu":
            assert f"def {function or 'make'}(" in (folder / f"{module}.py").read_text(encoding="utf-8"), entry.id
        assert set(entry.families) <= set(FAMILIES), entry.id
        assert set(entry.models) <= {FREE_MODEL, *shipped_models()}, entry.id


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ('broken = "1.1"', "broken and fixed are both 1.1"),
        ("clauses = [0]", "clauses"),
        ('machine = "tpu"', "machine"),
        ('number = "1"', "number"),
        ('severity = "high"', "severity"),
        ('beside = ["jaxlib>=0.7"]', "beside"),
    ],
)
def test_a_wrong_entry_is_refused_by_its_field(toy: Path, line: str, field: str) -> None:
    name = line.partition(" ")[0]
    kept = [old for old in _BUG.splitlines() if old.partition(" ")[0] != name]
    toy.write_text("\n".join([*kept, line]), encoding="utf-8")
    with pytest.raises(InvalidInputError, match=field):
        read_table(toy)


def test_two_entries_of_one_name_are_refused(toy: Path) -> None:
    toy.write_text(_BUG + _BUG.partition("\n\n")[2], encoding="utf-8")
    with pytest.raises(InvalidInputError, match="two entries have the id toy"):
        read_table(toy)


def test_a_module_is_loaded_without_the_packages_above_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # it is set for good, and other tests come behind this one
    package = tmp_path / "backtested_toy"
    (package / "ops").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('the whole engine')", encoding="utf-8")
    (package / "ops" / "kernel.py").write_text(
        "from backtested_toy.platform import is_cuda\nfrom .part import SIZE\nSEEN = (is_cuda(), SIZE)",
        encoding="utf-8",
    )
    (package / "ops" / "part.py").write_text("SIZE = 16", encoding="utf-8")
    names = ["backtested_toy.newer.kernel", "backtested_toy.ops.kernel"]
    stand_ins = {"backtested_toy.platform": {"is_cuda": lambda: False}}
    try:
        module = load(tmp_path, names, also=["backtested_toy.ops.part"], stand_ins=stand_ins)
        assert module.SEEN == (False, 16)
        with pytest.raises(ModuleNotFoundError, match="neither a stand-in nor a module that the adapter names"):
            importlib.import_module("backtested_toy.gone")
        with pytest.raises(ModuleNotFoundError, match="has none of a, b"):
            load(tmp_path, ["a", "b"], stand_ins={})
    finally:
        sys.meta_path[:] = [one for one in sys.meta_path if type(one).__module__ != "ci.backtest.loading"]
        for name in [name for name in sys.modules if name.startswith("backtested_toy")]:
            del sys.modules[name]


def test_a_model_of_one_operator_has_the_bytes_of_its_protobuf() -> None:
    model = one_operator("Op", {"": 23}, "", [("A", FLOAT), ("", 0)], [("Y", FLOAT)], {"scale": 1.0, "n": -1})
    attributes = b"*\x0f\n\x05scale\x15\0\0\x80?\xa0\x01\x01*\x11\n\x01n\x18" + b"\xff" * 9 + b"\x01\xa0\x01\x02"
    node = b'\n\x01A\n\0\x12\x01Y"\x02Op' + attributes + b":\0"
    values = b"Z\t\n\x01A\x12\x04\n\x02\x08\x01b\t\n\x01Y\x12\x04\n\x02\x08\x01"
    graph = b"\n" + bytes([len(node)]) + node + b"\x12\x03one" + values
    assert model == b"\x08\nB\x04\n\0\x10\x17" + b":" + bytes([len(graph)]) + graph


def test_a_later_run_keeps_what_an_earlier_one_found_under_the_same_conditions() -> None:
    def run(*names: str, seed: int = 0) -> Backtest:
        outcomes = tuple(Outcome(id=name, verdict="missed") for name in names)
        return Backtest(profile="gate", seed=seed, seconds=9, machine="cpu", versions={}, outcomes=outcomes)

    order = ["a", "b", "c"]
    again = run("b").model_copy(update={"outcomes": (Outcome(id="b", verdict="found"),)})
    kept = again.keeping(run("c", "b", "a", "gone"), order)
    assert [(one.id, one.verdict) for one in kept.outcomes] == [("a", "missed"), ("b", "found"), ("c", "missed")]
    assert [one.id for one in again.keeping(run("a", seed=1), order).outcomes] == ["b"]


def test_an_entry_whose_release_is_not_prepared_cannot_run(toy: Path, tmp_path: Path) -> None:
    (entry,) = read_table(toy).entries
    found = run_entry(entry, Plan(store=tmp_path))
    assert (found.verdict, found.why) == ("not_runnable", "toy-package 1.0 is not prepared")


def test_a_release_that_the_index_has_not_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InvalidInputError, match=r"toy-package==1\.0: .*pip says"):
        prepare("toy-package", "1.0", tmp_path)
    assert not wheel_digest(tmp_path)


def _side(**counts: int) -> Side:
    return Side(release="1.0", drawn=9, **{"cases": 5, "layers": 4, "seconds": 2.0, **counts})


def _result(table: Table, *, passes: bool | None) -> Backtest:
    case = {"mode": "decode", "requests": [{}], "layers": [{}]}
    find = Find(
        clause=2,
        check="numerics",
        units=40.0,
        summary="wrong",
        cases=3,
        seconds=1.5,
        first=case,
        case=case,
        passes=passes,
    )
    one = Outcome(
        id=table.entries[0].id,
        verdict="found" if passes else "missed",
        broken=_side(failing=1),
        fixed=_side(failing=2, broken={"3": 2}),
        find=find if passes else None,
    )
    return Backtest(profile="gate", seed=0, seconds=20, machine="cpu", versions={"torch": "2"}, outcomes=(one,))


def test_the_page_has_misses_with_their_gap_and_finds_with_their_cost(toy: Path) -> None:
    table = read_table(toy)
    found, missed = (page(table, _result(table, passes=passes)) for passes in (True, False))
    assert headline(table, _result(table, passes=True)).startswith(
        "Of 1 released bug of 1 project that ran both ways, the suite finds 1 "
    )
    assert "| one key too many (some/project#1) | toy-package 1.0 → 1.1 | clause 2" in found
    assert "3 cases, 1.5 s" in found
    assert "3 of 5 cases pass" in found
    assert "- toy: 2 of 5 cases" in found
    assert "not explained yet" in found
    assert "| 5 cases of 9, 2 s | not known yet |" in missed


def test_the_committed_page_and_headline_are_those_of_the_committed_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "--check", str(RESULT.parent / "README.md")]) == 0
    said = capsys.readouterr().out
    assert " ".join(said.split()) in " ".join((TABLE.parents[2] / "README.md").read_text(encoding="utf-8").split())


def test_the_committed_result_has_every_entry_of_the_table() -> None:
    outcomes = {one.id for one in Backtest.read(RESULT).outcomes}
    assert outcomes == {entry.id for entry in read_table().entries}


def test_results_of_two_machines_are_one_page_and_its_first_try_is_told(toy: Path) -> None:
    table = read_table(toy)
    (entry,) = table.entries
    elsewhere = Outcome(id=entry.id, verdict="not_run", why="it needs sm90")
    here = _result(table, passes=True)
    there = here.model_copy(update={"machine": "sm90", "versions": {"torch": "3"}})
    first = here.model_copy(update={"outcomes": (elsewhere,)})
    found = page(table, first, there)
    assert "- [cpu](result.json): the profile gate" in found
    assert (
        "- [sm90](result-sm90.json): the profile gate, seed 0, 20 CPU seconds for the bad release, on torch 3" in found
    )
    assert "it found 1 of these 1;" in found
    late = table.model_copy(update={"entries": (entry.model_copy(update={"missed_first": True}),)})
    assert "it found 0 of these 1;" in page(late, there)
    assert "(some/project#1); missed at the first try |" in page(late, there)
