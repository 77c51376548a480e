"""Dumps of FlashInfer become cases; each damaged one is a sentence with its file, and the others are still read."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from attnconf.capture.dumps.reader import Reader
from attnconf.capture.gathering import Gathering
from attnconf.cases.case import Case
from attnconf.cli import main as cli
from attnconf.errors import InvalidInputError
from conformance.tests.support import dumped
from conformance.tests.support.dumped import write_dump

KV = torch.zeros(9, 2, 2, 16, 64, dtype=torch.float16)
TABLE = torch.tensor([[1, 2, 0], [3, 0, 0]], dtype=torch.int32)
LENGTHS = torch.tensor([20, 9], dtype=torch.int32)
SCRATCH = torch.zeros(8, dtype=torch.uint8)
DECODE = "trtllm_batch_decode_with_kv_cache"


def queries(tokens: int) -> torch.Tensor:
    return torch.zeros(tokens, 4, 64, dtype=torch.float16)


def a_decode(root: Path, *, safe: bool = False, **change: Any) -> Path:  # noqa: ANN401 - arguments
    args = {
        "query": queries(2),
        "kv_cache": KV,
        "workspace_buffer": SCRATCH,
        "block_tables": TABLE,
        "seq_lens": LENGTHS,
        "max_seq_len": 4096,
    } | {name: change.pop(name) for name in list(change) if name in {"query", "kv_cache", "block_tables", "seq_lens"}}
    return write_dump(root, dumped.decode, DECODE, tuple(args.values()), {"bmm1_scale": 0.125, **change}, safe=safe)


@dataclass
class Found:
    cases: list[Case]
    reader: Reader


def imported(root: Path) -> Found:
    out = root.parent / "out"
    out.mkdir()
    gathering = Gathering(out)
    reader = Reader(gathering)
    reader.read(root)
    gathering.finish()
    return Found([Case.read(path) for path in out.glob("*.json")], reader)


@pytest.mark.parametrize("safe", [False, True])
def test_a_decode_is_a_case_with_its_table_strides_and_hint(safe: bool, tmp_path: Path) -> None:  # noqa: FBT001
    a_decode(tmp_path / "d", safe=safe, window_left=15, sinks=[torch.zeros(4)])
    (case,) = imported(tmp_path / "d").cases
    assert (case.mode, case.max_seq_len, case.q_dtype) == ("decode", 4096, "float16")
    (layer,) = case.layers
    assert (layer.num_qo_heads, layer.num_kv_heads, layer.head_dim) == (4, 2, 64)
    assert (layer.window_left, layer.sinks, layer.sm_scale) == (15, True, 0.125)
    paging = case.paging
    assert (paging.layout, paging.storage, paging.page_size, paging.extra_columns) == ("HND", "interleaved", 16, 1)
    assert paging.recorded is not None
    assert (paging.recorded.tables, paging.recorded.num_pages) == (((1, 2), (3,)), 9)


def test_a_pair_of_views_keeps_its_strides_and_drafts_are_a_verify_step(tmp_path: Path) -> None:
    pair = (KV[:, 0], KV[:, 1])
    a_decode(tmp_path / "d", query=queries(6), kv_cache=pair, q_len_per_req=3)
    (case,) = imported(tmp_path / "d").cases
    assert (case.mode, case.paging.storage) == ("verify", "interleaved")
    assert [one.new_tokens for one in case.requests] == [3, 3]


def test_page_0_is_a_page_where_it_is_read_and_nobodys_where_it_pads(tmp_path: Path) -> None:
    a_decode(tmp_path / "d", block_tables=torch.tensor([[0, 2], [3, 0]], dtype=torch.int32))
    (case,) = imported(tmp_path / "d").cases
    assert case.paging.recorded is not None
    assert (case.paging.recorded.tables, case.paging.recorded.num_pages) == (((1, 3), (4,)), 10)
    padded = torch.tensor([20, 1], dtype=torch.int32)
    a_decode(tmp_path / "e" / "d", block_tables=torch.tensor([[1, 2], [0, 0]], dtype=torch.int32), seq_lens=padded)
    (case,) = imported(tmp_path / "e" / "d").cases
    assert (len(case.requests), case.padding_rows) == (1, 1)


def a_wrapper(root: Path, owner: int, *, plan: bool = True) -> Path:
    name = "BatchDecodeWithPagedKVCacheWrapper"
    own = object()
    write_dump(root, dumped.init, f"{name}.__init__", (own, SCRATCH, "HND"), owner=owner)
    if plan:
        ints = [torch.tensor(one, dtype=torch.int32) for one in ([0, 2, 3], [5, 2, 4], [4, 9])]
        kwargs = {"q_data_type": torch.float16}
        write_dump(
            root, dumped.plan_decode, f"{name}.plan", (own, *ints, 4, 2, 64, 16, "NONE", 15), kwargs, owner=owner
        )
    return write_dump(root, dumped.run_decode, f"{name}.run", (own, queries(2), KV), owner=owner)


def test_a_wrappers_plan_and_run_are_one_call(tmp_path: Path) -> None:
    a_wrapper(tmp_path / "d", 1)
    (case,) = imported(tmp_path / "d").cases
    assert (case.mode, case.paging.layout, case.layers[0].window_left) == ("decode", "HND", 15)
    assert case.layers[0].sm_scale == pytest.approx(0.125, rel=0)
    assert case.paging.recorded is not None
    assert case.paging.recorded.tables == ((5, 2), (4,))
    assert [one.kv_len for one in case.requests] == [20, 9]


NIBBLES = torch.zeros(9, 2, 2, 16, 32, dtype=torch.uint8)
BLOCK_SCALES = torch.zeros(9, 2, 2, 16, 4, dtype=torch.uint8).view(torch.float8_e4m3fn)


@pytest.mark.parametrize("joint", [True, False])
def test_bytes_with_scales_of_blocks_are_nvfp4(joint: bool, tmp_path: Path) -> None:  # noqa: FBT001
    scales = BLOCK_SCALES if joint else (BLOCK_SCALES[:, 0], BLOCK_SCALES[:, 1])
    cache = NIBBLES if joint else (NIBBLES[:, 0], NIBBLES[:, 1])
    query = queries(2).to(torch.float8_e4m3fn)
    a_decode(tmp_path / "d", query=query, kv_cache=cache, kv_cache_sf=scales, bmm2_scale=0.5)
    (case,) = imported(tmp_path / "d").cases
    assert (case.kv_dtype, case.q_dtype, case.layers[0].head_dim) == ("nvfp4", "float8_e4m3fn", 64)
    assert (case.layers[0].head_dim_v, case.layers[0].v_scale) == (None, 0.5)


def test_scales_that_do_not_fit_their_cache_are_a_sentence(tmp_path: Path) -> None:
    a_decode(tmp_path / "d", kv_cache=NIBBLES, kv_cache_sf=BLOCK_SCALES[..., :3])
    found = imported(tmp_path / "d")
    assert not found.cases
    (said,) = found.reader.refused
    assert "kv_cache_sf" in said
    assert "float8_e4m3fn [9, 2, 16, 3] beside a cache of uint8 [9, 2, 16, 32]; allowed: " in said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kv_cache": NIBBLES}, "a cache of bytes without scales of blocks"),
        ({"mask": torch.ones(2, 2)}, "a call with mask"),
        ({"kv_layout": "NDH"}, "layout NDH"),
        ({"bmm2_scale": 2.0}, "values of float16 with a scale"),
    ],
)
def test_what_no_case_can_say_is_counted_with_its_reason(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    a_decode(tmp_path / "d", **change)
    found = imported(tmp_path / "d")
    assert not found.cases
    assert dict(found.reader.gathering.left_out) == {said: 1}
    assert not found.reader.refused


def _cut(folder: Path) -> str:
    path = folder / "inputs.pt"
    path.write_bytes(path.read_bytes()[:100])
    return "inputs.pt: "


def _other(folder: Path) -> str:
    torch.save([1], folder / "inputs.pt")
    return "inputs.pt: a list; allowed: a dictionary of tensors"


def _missing(folder: Path) -> str:
    (folder / "inputs.pt").unlink()
    return "it has no inputs.pt and no inputs.safetensors"


def _no_json(folder: Path) -> str:
    (folder / "metadata.jsonl").write_text("{\n")
    return "metadata.jsonl: line 1 is "


def _empty(folder: Path) -> str:
    (folder / "metadata.jsonl").write_text("")
    return "metadata.jsonl: empty; allowed: a JSON object a line"


def _renamed(folder: Path) -> str:
    path = folder / "metadata.jsonl"
    path.write_text(path.read_text().replace('"arg_1"', '"arg_9"'))
    return "metadata.jsonl: KeyError: "


def _unsafe(folder: Path) -> str:
    (folder / "inputs.pt").rename(folder / "inputs.safetensors")
    return "inputs.safetensors: "


@pytest.mark.parametrize("damage", [_cut, _other, _missing, _no_json, _empty, _renamed, _unsafe])
def test_a_damaged_dump_is_one_sentence_with_its_file_and_the_others_are_read(
    damage: Any,  # noqa: ANN401 - what does it
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = damage(a_decode(tmp_path / "d"))
    a_decode(tmp_path / "d", window_left=15)
    assert cli.main(["import-dump", str(tmp_path / "d"), "--out", str(tmp_path / "o")]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert line.startswith(f"attnconf: {tmp_path / 'd'}")
    assert said in line
    assert captured.out.splitlines()[-1] == f"1 case of 2 dumps in {tmp_path / 'o'}"


def test_arguments_that_do_not_fit_and_a_run_without_its_plan_are_sentences(tmp_path: Path) -> None:
    a_decode(tmp_path / "d", kv_cache=KV[0])
    a_decode(tmp_path / "d", seq_lens=LENGTHS[:1])
    a_decode(tmp_path / "d", query=torch.zeros(2, 4))
    a_wrapper(tmp_path / "d", 3, plan=False)
    first, second, third, fourth = imported(tmp_path / "d").reader.refused
    assert "the KV cache is a tensor of [2, 2, 16, 64]; allowed: a tensor of [pages, 2, ...]" in first
    assert "its arguments do not fit together: ValueError" in second
    assert "its arguments do not fit together: IndexError" in third
    assert "a run whose plan was not dumped" in fourth


def test_other_functions_are_passed_over_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_decode(tmp_path / "d")
    write_dump(tmp_path / "d", dumped.init, "rmsnorm", (object(), SCRATCH))
    assert cli.main(["import-dump", str(tmp_path / "d"), "--out", str(tmp_path / "o")]) == 0
    assert "passed over: 1 dump of rmsnorm, which is no attention over pages" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["none", "empty"])
def test_a_folder_without_dumps_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInputError, match="allowed: what FLASHINFER_DUMP_DIR named"):
        Reader(Gathering(tmp_path)).read(tmp_path / name)


_HOME = importlib.util.find_spec("flashinfer")
WRITERS = [] if _HOME is None else [Path(one, "api_logging.py") for one in _HOME.submodule_search_locations or ()]


@pytest.mark.parametrize("path", WRITERS, ids=lambda path: path.parent.name)
def test_what_flashinfers_own_writer_wrote_is_read(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("api_logging_alone", path)
    assert spec is not None
    assert spec.loader is not None
    logging = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(logging)  # without the package, whose import takes seconds
    monkeypatch.setattr(logging, "_DUMP_DIR", str(tmp_path / "d"))
    args = (queries(2), (KV[:, 0], KV[:, 1]), SCRATCH, TABLE, LENGTHS, 4096, 0.125)
    folder = logging._dump_function_inputs(dumped.decode, DECODE, args, {"window_left": 15})
    assert folder is not None
    logging._dump_function_outputs(folder, queries(2))
    (case,) = imported(tmp_path / "d").cases
    a_decode(tmp_path / "e" / "d", kv_cache=(KV[:, 0], KV[:, 1]), window_left=15)
    assert imported(tmp_path / "e" / "d").cases == [case]
