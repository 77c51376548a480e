"""The engines' own memory managers break no clause, and a fault that is planted into each is caught."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import pytest

from attnconf.clauses import Clause
from attnconf.serving.machine import play
from attnconf.serving.managers.registry import DRAFTLESS, MANAGERS, manager_named
from attnconf.serving.violation import Violation

HERE = [name for name in MANAGERS if name != "own" and importlib.util.find_spec(name.partition("-")[0]) is not None]


def run(name: str, stories: int) -> None:
    played = play(manager_named(name), stories=stories, drafts=name not in DRAFTLESS)
    assert played.batches > 2 * stories


@pytest.mark.parametrize("name", HERE)
def test_no_clause_is_broken(name: str) -> None:
    run(name, 40)


def nothing(*_: Any, **__: Any) -> None:  # noqa: ANN401 - in place of any method
    """Count no reader."""


def plant(name: str, patch: pytest.MonkeyPatch) -> None:
    """Take away what keeps pages that are read: a reference, a lock, or the last pages of a window."""
    if name == "vllm":
        patch.setattr("vllm.v1.core.block_pool.BlockPool.touch", nothing)
    elif name == "transformers":
        ledger = "transformers.generation.continuous_batching.cache_allocators.cache_allocator.BlockLedger"
        patch.setattr(f"{ledger}.acquire", nothing)
    elif name == "sglang-swa":
        common = importlib.import_module("sglang.srt.mem_cache.common")
        right = common.free_swa_out_of_window_slots

        def early(*args: Any, sliding_window_size: int, **more: Any) -> None:  # noqa: ANN401 - sglang's arguments
            right(*args, sliding_window_size=sliding_window_size - 4, **more)

        patch.setattr(common, "free_swa_out_of_window_slots", early)
    else:
        radix = importlib.import_module("sglang.srt.mem_cache.radix_cache").RadixCache
        none = importlib.import_module("sglang.srt.mem_cache.base_prefix_cache").IncLockRefResult
        patch.setattr(radix, "inc_lock_ref", lambda *_: none())
        patch.setattr(radix, "dec_lock_ref", nothing)


@pytest.mark.parametrize("name", HERE)
def test_a_planted_fault_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    manager_named(name)  # imports the engine
    plant(name, monkeypatch)
    with pytest.raises(Violation) as broken:
        run(name, 300)
    assert broken.value.clause in {Clause.PAGES, Clause.PREFIX_HITS, Clause.STEPS}
