"""Finds in a redis database: shared, asked first, and one sentence where there is none."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import fakeredis
import pytest

from attnconf.cases.drawing.drawn import DrawnCases
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cli.main import main
from attnconf.judging.result import CaseResult
from attnconf.platforms import Platform
from attnconf.running.campaigns.finds import open_finds

if TYPE_CHECKING:
    from redis import Redis

    from attnconf.cases.case import Case

URL = "redis://someone:secret@db:6379/0"


def a_case() -> Case:
    return DrawnCases(profile_named("smoke"), 0, accelerated=False).cases("decode", "gemma4-e2b")[0]


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Redis:
    server = fakeredis.FakeServer()
    monkeypatch.setattr("redis.Redis.from_url", lambda *_, **__: fakeredis.FakeRedis(server=server))
    return fakeredis.FakeRedis(server=server)


def test_a_find_is_there_for_the_others_of_its_backend_and_device(shared: Redis) -> None:
    case = a_case()
    failure = CaseResult(case=case, backend="b", evidence="kernel", layers=())
    assert open_finds(URL, "--finds").add(failure, Platform()) == ""
    other = open_finds(URL, "--finds")
    assert other.of("b", Platform(), "decode", "gemma4-e2b") == [case]
    assert other.of("c", Platform(), "decode", "gemma4-e2b") == []
    assert other.of("b", Platform(device="H100", sm=(9, 0)), "decode", "gemma4-e2b") == []
    (key,) = shared.keys()
    shared.sadd(key, b"no case", b"{}", b"[" * 100_000)
    assert other.of("b", Platform(), "decode", "gemma4-e2b") == [case]


@pytest.mark.usefixtures("shared")
def test_a_campaign_asks_what_was_found_before(capsys: pytest.CaptureFixture[str]) -> None:
    case = a_case()
    open_finds(URL, "--finds").add(CaseResult(case=case, backend="reference", evidence="kernel", layers=()), Platform())
    asked = ["campaign", "--backend", "reference", "--examples", "1", "--family", "decode", "--model", "gemma4-e2b"]
    assert main([*asked, "--finds", URL]) == 0
    told = capsys.readouterr().out
    assert "1 case found before, asked first" in told
    assert "reference: 2 cases in" in told


def test_a_database_that_does_not_answer_is_one_sentence_without_its_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["campaign", "--backend", "reference"]
    monkeypatch.setenv("ATTNCONF_FINDS", "redis://someone:secret@127.0.0.1:1/0")
    assert main(asked) == 2
    told = capsys.readouterr().err
    assert told.startswith("attnconf: --finds: the redis database at redis://127.0.0.1:1/0 does not answer: ")
    assert told.count("\n") == 1
    assert "secret" not in told
    assert main([*asked, "--finds", "ftp://x"]) == 2
    assert "allowed: redis://" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "redis", None)
    monkeypatch.delitem(sys.modules, "hypothesis.extra.redis", raising=False)
    assert main(asked) == 2
    assert capsys.readouterr().err == "attnconf: --finds needs redis: pip install 'attnconf[finds]'\n"
