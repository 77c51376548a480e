"""Stories: the same batches for everybody, varied ones, and a file that tells them again."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import pytest

from attnconf.cases.models import credited_model
from attnconf.errors import InvalidInputError
from attnconf.judging.result import CaseResult
from attnconf.serving.judge import StepJudge, pool_sizes
from attnconf.serving.setting import Setting, setting_of
from attnconf.serving.shorten import retell
from attnconf.serving.stories import tell
from attnconf.serving.story import Story
from attnconf.serving.world import World

if TYPE_CHECKING:
    from pathlib import Path

    from attnconf.cases.case import Case

told = partial(tell, seed=3, accelerated=False)


def test_a_seed_tells_the_same_batches_and_another_one_others() -> None:
    setting = setting_of("free")
    first, again = told(setting, events=200, batches=12), told(setting, events=200, batches=12)
    assert first == again
    assert first.played.events >= 200
    assert len(first.batches) == 12
    other = tell(setting, events=200, batches=12, seed=4, accelerated=False)
    assert not {batch.case.id for batch in first.batches} & {batch.case.id for batch in other.batches}


def test_modules_that_a_process_has_loaded_change_no_story(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hypothesis draws constants of a user's modules: workers of one run would play other stories than the next."""

    def drawn() -> None:
        raise AssertionError("constants of loaded modules are drawn")

    monkeypatch.setattr("hypothesis.internal.conjecture.providers._get_local_constants", drawn)
    assert told(setting_of("free"), events=200, batches=12).played.events >= 200


def test_the_batches_that_are_kept_are_varied_and_stand_in_their_order() -> None:
    stories = told(setting_of("free"), events=1500, batches=24)
    cases = [batch.case for batch in stories.batches]
    assert {case.mode for case in cases} == {"decode", "extend", "mixed", "verify"}
    assert {case.paging.reclaimed for case in cases} == {True, False}
    assert any(one.shared_pages for case in cases for one in case.requests)
    assert any(case.padding_rows for case in cases)
    assert all(case.paging.placement == "recorded" and case.paging.hybrid for case in cases)


def test_a_gemma_4_is_played_with_its_own_layers_and_past_its_window() -> None:
    stories = told(setting_of("gemma4-e2b"), events=400, batches=8)
    assert {credited_model(batch.case).partition("@")[0] for batch in stories.batches} == {"gemma4-e2b"}
    assert max(batch.case.max_kv_len for batch in stories.batches) > 512
    assert {layer.kv_owner is None for batch in stories.batches for layer in batch.case.layers} == {True, False}


def test_a_story_in_a_file_ends_in_the_batch_that_it_was_told_for(tmp_path: Path) -> None:
    stories = told(setting_of("free"), events=200, batches=6)
    batch = stories.batches[-1]
    path = tmp_path / "story.json"
    Story(setting=stories.setting, events=batch.events).write(path)
    story = Story.read(path)
    assert (story.setting, story.events) == (stories.setting, batch.events)
    asked: list[Case] = []

    def ask(case: Case) -> CaseResult:
        asked.append(case)
        return CaseResult(case=case, backend="none", evidence="kernel", layers=())

    memory = story.setting.factory()
    geometries = [story.setting.layers(accelerated=False)]
    judge = StepJudge(ask, pool_sizes(memory()), geometries, q_dtype=story.setting.q_dtype)
    assert retell(World(memory(), judge), story.events) is None
    assert batch.case in asked


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"events": []}, "events"),
        ({"events": [{"event": "sleep"}]}, "events.0"),
        ({"events": [{"event": "step", "chunk": 0}]}, "events.0.step.chunk is 0"),
        ({"events": [{"event": "submit", "request": 0, "prompt": [9], "answer": 1}]}, "events.0.submit.prompt.0 is 9"),
        ({"events": [{"event": "evict", "hard": True}]}, "hard"),
        ({"setting": {"memory": "paper"}}, "memory is 'paper'; allowed: own"),
        ({"setting": {"memory": "vllm", "sizes": {"full": 99}}}, "sizes belong to the memory own, not to vllm"),
    ],
)
def test_a_wrong_story_is_one_sentence(change: dict[str, object], said: str, tmp_path: Path) -> None:
    data = {"schema": "attnconf.story/1", "events": [{"event": "evict"}], **change}
    path = tmp_path / "story.json"
    path.write_text(json.dumps(data))
    with pytest.raises(InvalidInputError, match=said) as caught:
        Story.read(path)
    assert "story.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_only_a_model_of_one_window_is_played() -> None:
    assert setting_of("gemma4-e2b").sizes.window_left == 511
    with pytest.raises(InvalidInputError, match="has 0 windows"):
        setting_of("llama3-8b")


def test_a_setting_knows_which_memories_take_no_drafts() -> None:
    assert Setting().drafts
    assert not Setting(memory="sglang").drafts
