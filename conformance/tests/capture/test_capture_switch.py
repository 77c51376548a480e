"""Off, nothing is imported and nothing patched; on, an engine's own call is seen, and given back unchanged."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from attnconf.capture import plugin
from attnconf.capture.gathering import Budget
from attnconf.capture.switch import VARIABLE, asked, capturing, start, variable
from attnconf.cases.case import Case
from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from pathlib import Path

_MODULE = "vllm.model_executor.layers.attention"


class Attention:
    """Stands for vLLM's layer: its ``impl`` answers."""

    def __init__(self, name: str) -> None:
        self.layer_name = name
        self.impl: Any = Impl()


class Impl:
    head_size, num_heads, num_kv_heads, scale = 32, 4, 2, 0.1
    sliding_window, logits_soft_cap, sinks = (-1, -1), 0, None
    kv_sharing_target_layer_name = None

    def forward(self, layer: Any, query: Any, key: Any, value: Any, cache: Any, metadata: Any) -> str:  # noqa: ANN401, PLR0913 - vLLM's arguments
        del layer, query, key, value, cache, metadata
        return "answer"


METADATA = SimpleNamespace(
    query_start_loc=torch.tensor([0, 1, 4]),
    seq_lens=torch.tensor([20, 3]),
    block_table=torch.tensor([[5, 2, 0], [7, 0, 0]]),
    num_actual_tokens=4,
    max_seq_len=64,
    causal=True,
)


@pytest.fixture
def _vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = ModuleType(_MODULE)
    module.Attention = Attention
    monkeypatch.setitem(sys.modules, _MODULE, module)


def call(layer: Attention) -> object:
    cache = torch.zeros(9, 2, 16, 64, dtype=torch.float16)
    return layer.impl.forward(layer, torch.zeros(4, 4, 32, dtype=torch.float16), None, None, cache, METADATA)


@pytest.mark.parametrize("engine", [plugin.vllm, plugin.sglang])
def test_off_a_plugin_imports_and_patches_nothing(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN401
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setitem(sys.modules, "attnconf.capture.switch", None)  # an import of it would raise
    engine()


@pytest.mark.usefixtures("_vllm")
def test_on_a_call_is_a_case_and_the_answer_is_the_engines(tmp_path: Path) -> None:
    right = Attention.__init__
    with capturing("vllm", tmp_path) as gathering:
        layer = Attention("model.layers.0")
        assert call(layer) == "answer"
    assert gathering.lines == ["1 case of 1 step"]
    assert Attention.__init__ is right
    assert "forward" not in vars(layer.impl)
    (path,) = tmp_path.glob("*.json")
    case = Case.read(path)
    assert (case.mode, case.max_seq_len, case.paging.storage, case.paging.layout) == ("mixed", 64, "sliced", "HND")
    assert [(one.prefix_len, one.new_tokens) for one in case.requests] == [(19, 1), (0, 3)]
    assert case.paging.recorded is not None
    assert (case.paging.recorded.tables, case.paging.recorded.num_pages) == (((5, 2), (7,)), 9)


@pytest.mark.usefixtures("_vllm")
def test_images_are_spans_of_their_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METADATA, "mm_prefix_range", {1: [(0, 1)]}, raising=False)
    with capturing("vllm", tmp_path / "full"):
        call(Attention("model.layers.0"))
    (path,) = (tmp_path / "full").glob("*.json")
    case = Case.read(path)
    assert ([one.spans for one in case.requests], case.layers[0].spans) == ([(), ((0, 2),)], True)
    monkeypatch.setattr(Impl, "sliding_window", (15, 0))
    with capturing("vllm", tmp_path / "sliding") as gathering:
        call(Attention("model.layers.0"))
    assert "images that no window cuts, in a layer with a window" in gathering.lines[1]


@pytest.mark.usefixtures("_vllm")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"causal": False}, "a step that is not causal"),
        ({"seq_lens": None}, "attnconf could not read it: AttributeError"),
    ],
)
def test_what_is_left_out_is_named(
    change: dict[str, object], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in change.items():
        monkeypatch.setattr(METADATA, name, value, raising=False)
    with capturing("vllm", tmp_path) as gathering:
        layer = Attention("model.layers.0")
        assert call(layer) == "answer"
    assert said in gathering.lines[1]


def test_the_variable_says_folder_budget_and_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, variable(tmp_path, Budget(3, 7), "gemma4-e2b"))
    found = asked()
    assert found is not None
    assert (found.folder, found.budget, found.model) == (tmp_path, Budget(3, 7), "gemma4-e2b")
    monkeypatch.setenv(VARIABLE, "yes")
    with pytest.raises(InvalidInputError, match="allowed: what attnconf capture sets"):
        asked()
    with pytest.raises(InvalidInputError, match="allowed: sglang, transformers, vllm"):
        start("tgi", found)
