"""Bad input is one printable sentence, whatever stands in the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnconf.cases.case import Case, Paging
from attnconf.errors import InvalidInputError
from attnconf.values import read_json


def test_an_integer_of_too_many_digits_is_invalid_input(tmp_path: Path) -> None:
    path = tmp_path / "case.json"
    path.write_text('{"seed": ' + "7" * 5000 + "}")
    with pytest.raises(InvalidInputError, match=r"case\.json: .*digits"):
        read_json(path)


def test_a_field_name_cannot_write_to_the_terminal() -> None:
    with pytest.raises(InvalidInputError, match="second") as caught:
        Paging.from_data({"\x1b[31m\nsecond": 1}, "case.json")
    assert str(caught.value).isprintable()


def test_a_long_field_name_is_cut() -> None:
    with pytest.raises(InvalidInputError) as caught:
        Paging.from_data({"x" * 10_000: 1}, "case.json")
    assert len(str(caught.value)) < 400


def test_a_value_cannot_write_to_the_terminal() -> None:
    with pytest.raises(InvalidInputError) as caught:
        Case.from_data({"mode": "\x1b[31m\u2028x\x9b", "layers": [], "requests": []}, "case.json")
    assert str(caught.value).isprintable()


def test_names_that_print_are_left_alone() -> None:
    with pytest.raises(InvalidInputError, match=r"^case\.json: page_size is 0; "):
        Paging.from_data({"page_size": 0}, "case.json")
