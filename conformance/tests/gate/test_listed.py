"""What the list says stands beside the cells of a receipt, in every form of it, and is never taken for a run."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

import pytest

from attnconf.errors import InvalidInputError
from attnconf.gate.listed import ListedCell, listed_cells
from attnconf.gate.proof import prove
from attnconf.gate.receipt import Receipt
from attnconf.platforms import Platform
from attnconf.policy.requirements import RequiredCell
from attnconf.report.compose import compose
from attnconf.report.matrix import arrange
from attnconf.report.page import render_page
from attnconf.report.support import support_page
from conformance.tests.support.receipts import POLICY, a_receipt

if TYPE_CHECKING:
    from pathlib import Path

CPU = Platform(packages={"flashinfer-python": "0.6.13"})
LISTED = listed_cells(["triton", "trtllm_mha"], ["gemma4-12b"], CPU)


def test_the_cells_of_gemma4_12b() -> None:
    found = {(one.layer_kind, one.mode, one.kv_dtype): one for one in LISTED if one.q_dtype == "bfloat16"}
    assert {one.backend for one in LISTED} == {"trtllm_mha"}
    assert {one.sm for one in LISTED} == {"10.0"}
    assert found["full", "decode", "bfloat16"].kernels > 3
    lacking = found["full", "extend", "float8_e4m3fn"]
    assert lacking.kernels == 0
    assert "qkvLayout=2, maskType=1, kernelType=0" in lacking.missing


def test_nothing_is_listed_of_a_release_that_is_unknown_or_of_another_backend() -> None:
    assert listed_cells(["trtllm_mha"], ["gemma4-12b"], Platform(packages={"flashinfer-python": "0.7.4"})) == ()
    assert listed_cells(["trtllm_mha"], ["gemma4-12b"], Platform()) == ()
    assert listed_cells(["triton"], ["gemma4-12b"], CPU) == ()


def test_a_receipt_keeps_them_and_its_counts_do_not(tmp_path: Path) -> None:
    bare = a_receipt()
    receipt = bare.model_copy(update={"listed": LISTED})
    path = tmp_path / "r.json"
    receipt.write(path)
    read = Receipt.read(path)
    assert read.listed == LISTED
    assert read.cells == bare.cells
    assert sum(cell.executed for cell in read.cells) == sum(cell.executed for cell in bare.cells)


def test_a_cell_with_kernels_and_a_missing_one_is_refused() -> None:
    data = LISTED[0].to_data() | {"missing": "a key"}
    with pytest.raises(InvalidInputError, match="kernels is"):
        ListedCell.from_data(data, "receipt")


def test_the_matrix_has_columns_of_their_own() -> None:
    matrix = arrange((), LISTED)
    assert {name for name, _ in matrix.columns} == {"trtllm_mha, listed"}
    assert {square.kind for square in matrix.squares.values()} == {"listed"}
    assert {square.executed for square in matrix.squares.values()} == {0}


def test_page_and_support_page_show_them_as_not_run() -> None:
    receipt = a_receipt().model_copy(update={"listed": LISTED})
    html = render_page(compose({"r.json": receipt}))
    assert "kernels that exist, none run" in html
    assert 'class="listed"' in html
    markdown = support_page([("r.json", receipt)])
    assert "### Listed, not run" in markdown
    assert "none of these was run" in markdown


def test_no_proof_reads_them() -> None:
    wanted = [
        RequiredCell(
            backend=one.backend, model=one.model, layer_kind=one.layer_kind, mode=one.mode, executed=1, effective=()
        )
        for one in LISTED
        if one.kernels
    ]
    receipt = a_receipt().model_copy(update={"listed": LISTED})
    proof = prove(POLICY, wanted, receipt.cells, dt.date(2026, 11, 28), {})
    assert [cell for cell, _ in proof.unmet] == wanted
    assert proof.proven == ()
