"""CONTRACT.md, the table of clauses and the checks speak of the same twenty-six clauses, checks and promises."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

from attnconf.backends.protocol import Promises
from attnconf.clauses import SERVING, Clause, cite
from attnconf.judging.checks.catalogue import CHECKS
from attnconf.judging.checks.check import Outline
from attnconf.judging.checks.outlines import OUTLINES
from attnconf.judging.checks.refusal import CHECK_NAME
from attnconf.judging.mistakes import MISTAKES

TEXT = (Path(__file__).parents[1] / "CONTRACT.md").read_text(encoding="utf-8")
SECTIONS = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
NUMBERED = {int(section.split(".")[0]): section for section in SECTIONS if section[0].isdigit()}
BY_MACHINE = {"machine": tuple(SERVING)}
JUDGED = {check.name: check.clauses for check in CHECKS} | {CHECK_NAME: (Clause.REFUSAL,)} | BY_MACHINE


def test_the_contract_has_the_clauses_of_the_table_in_order() -> None:
    headings = re.findall(r"^## (\d+)\. (.+)$", TEXT, flags=re.MULTILINE)
    titles = [(int(number), title) for number, title in headings]
    assert [number for number, _ in titles] == list(range(1, 27))
    for number, title in titles:
        assert title.lower() == Clause(number).title.lower()
    assert list(Clause) == list(range(1, 27))


def test_every_clause_says_what_is_required_what_may_be_declined_and_who_judges() -> None:
    for number, section in NUMBERED.items():
        for part in ("- Required: ", "- May decline: ", "- Check: "):
            assert section.count(part) == 1, (number, part)


def test_each_clause_names_the_checks_that_claim_it() -> None:
    for number, section in NUMBERED.items():
        said = section.split("- Check: ")[1]
        for name, clauses in JUDGED.items():
            if number in clauses:
                assert f"`{name}`" in said, (number, name)
        named = set(re.findall(r"`([a-z_]+)`", said)) - {"probe_refusal", "supports"}
        assert named, number
        assert named <= set(JUDGED), number
    assert "needs a GPU" in NUMBERED[16]


def test_every_clause_is_claimed_by_a_check() -> None:
    assert {clause for clauses in JUDGED.values() for clause in clauses} == set(Clause)


def test_every_promise_is_named_in_the_contract() -> None:
    for promise in dataclasses.fields(Promises):
        assert re.search(rf"`{promise.name}\b", TEXT), promise.name


def test_mistakes_belong_to_clauses_that_the_numerics_check_claims() -> None:
    numerics = next(check for check in CHECKS if check.name == "numerics")
    assert {mistake.clause for mistake in MISTAKES} <= set(numerics.clauses)


def test_a_clause_is_cited_by_number_and_title() -> None:
    assert cite(2) == "clause 2 (window)"


def test_every_outline_is_that_of_a_check_in_the_same_order() -> None:
    told = [_told(one) for one in CHECKS]
    assert told == [_told(one) for one in OUTLINES]


def _told(outline: Outline) -> tuple[object, ...]:
    return tuple(getattr(outline, field.name) for field in dataclasses.fields(Outline))
