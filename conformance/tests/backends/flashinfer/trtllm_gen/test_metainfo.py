"""A kernel list is read by field name, and a list that is not understood gives one sentence and no kernel."""

from __future__ import annotations

import pytest

from attnconf.backends.flashinfer.trtllm_gen.metainfo import read_rows
from attnconf.errors import InvalidInputError
from conformance.tests.backends.flashinfer.trtllm_gen.conftest import FIELDS, PAGED, header


def test_reads_the_kernels_of_paged_attention_alone() -> None:
    (row,) = read_rows(header(), "list")
    assert row.name == "fmhaPagedP16"
    assert row.dtypes == ("BF16",) * 4
    assert (row.sm, row.page_size, row.head_dim, row.step_kv, row.shared_memory) == ("100f", 16, 256, 256, 178280)
    assert (row.mask, row.kernel_type, row.scheduler, row.split) == (1, 2, 0, 3)
    assert row.groups_heads is True


def test_finds_fields_by_name_in_any_order() -> None:
    values = PAGED.split(", ")
    order = [*range(5, len(FIELDS)), *range(5)]
    turned = header((", ".join(values[i] for i in order),), tuple(FIELDS[i] for i in order))
    assert read_rows(turned, "list") == read_rows(header(), "list")


def test_one_dtype_of_keys_and_values_stands_for_both_in_older_lists() -> None:
    left_out = {2, 3, *(i for i, field in enumerate(FIELDS) if "Sage" in field)}
    kept = [i for i in range(len(FIELDS)) if i not in left_out]
    values = PAGED.split(", ")
    older = header((", ".join(values[i] for i in kept),), tuple(FIELDS[i] for i in kept))
    assert read_rows(older, "list") == read_rows(header(), "list")


@pytest.mark.parametrize(
    ("change", "sentence"),
    {
        "an unknown field": (
            lambda text: text.replace("    bool mReserved1;\n", "    bool mFp16Softmax;\n"),
            "field mFp16Softmax; allowed: a list whose fields attnconf knows",
        ),
        "a missing field": (lambda text: text.replace("    int mTileSizeQ;\n", ""), "without field mTileSizeQ"),
        "swapped columns": (
            lambda text: text.replace("    int mSM;\n", "").replace(
                "    bool mReserved1;\n", "    bool mReserved1;\n    int mSM;\n"
            ),
            "kernel 1 is mCubin",
        ),
        "too few columns": (lambda text: text.replace(", 178280, 512,", ", 178280,"), "kernel 1 is 36 columns"),
        "cut off": (lambda text: text.removesuffix("\n};\n"), "cut off"),
        "no kernel": (lambda text: text.replace("512, 2, 16,", "512, 0, 0,"), "lists no kernel"),
        "another file": (lambda _: "#pragma once\n", "declares no TllmGenFmhaKernelMetaInfo"),
        "an unknown type": (
            lambda text: text.replace("bool mReserved1", "std::string mReserved1"),
            "'std::string mReserved1'",
        ),
    }.values(),
)
def test_what_is_not_understood_is_one_sentence(change: object, sentence: str) -> None:
    assert callable(change)
    with pytest.raises(InvalidInputError, match=r"^list: ") as raised:
        read_rows(change(header()), "list")
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
