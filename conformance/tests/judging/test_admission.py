"""A case that is too large in counts, in time or in memory is not run, and says why before anything is allocated."""

from __future__ import annotations

import json
import resource
import time
from typing import TYPE_CHECKING, Any

import pytest

from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.request import Request
from attnconf.cli import main as cli
from attnconf.judging.admission import MOST_SECONDS, seconds, why_not_admitted
from attnconf.judging.memory import Memory
from attnconf.judging.result import Outcome
from attnconf.platforms import Platform
from attnconf.running.session import Session

if TYPE_CHECKING:
    from pathlib import Path

LAYER = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25)
HUGE = 2**31 - 1
MEMORY = "needs more than the 8.0 GB of host memory"
HEADS = LAYER.model_copy(update={"num_qo_heads": 5000})
TOO_LARGE: dict[str, tuple[dict[str, Any], str]] = {
    "requests": ({"requests": (Request(),) * 5000}, "has more than 4096 requests"),
    "layers": ({"layers": (LAYER,) * 1100}, "has more than 1024 layers"),
    "padding": ({"padding_rows": 2**31}, MEMORY),
    "padding of any size": ({"padding_rows": 10**30}, MEMORY),
    "columns": ({"paging": Paging(extra_columns=2**31)}, MEMORY),
    "slack": ({"paging": Paging(slack_pages=2**40)}, MEMORY),
    "heads": ({"layers": (LAYER.model_copy(update={"num_qo_heads": HUGE}),)}, MEMORY),
    "tokens": ({"requests": (Request(prefix_len=2**62),)}, MEMORY),
    "head_dim": ({"layers": (LAYER.model_copy(update={"head_dim": HUGE}),)}, MEMORY),
    "some padding": ({"padding_rows": 2**18}, "has more than 262144 query rows"),
    "some columns": ({"paging": Paging(extra_columns=2**24)}, "has more than 16777216 entries in its block table"),
    "some slack": ({"paging": Paging(page_size=1, slack_pages=2**22)}, "has more than 4194304 pages"),
    "some heads": (
        {"layers": (LAYER.model_copy(update={"num_qo_heads": 5000}),)},
        "has more than 4096 heads in a layer",
    ),
    "scores": ({"mode": "extend", "requests": (Request(new_tokens=2**17),)}, "would take more than 600 s to judge"),
    "pairs": ({"requests": (Request(),) * 300, "layers": (LAYER,) * 300}, "would take more than 600 s to judge"),
    "far": ({"paging": Paging(page_size=2**24, placement="far")}, MEMORY),
    "page": ({"paging": Paging(page_size=HUGE)}, MEMORY),
}


def a_case(**changed: Any) -> Case:  # noqa: ANN401 - fields of a case
    return Case(**{"mode": "decode", "layers": (LAYER,), "requests": (Request(prefix_len=20),), **changed})


@pytest.mark.parametrize("name", TOO_LARGE)
def test_what_is_too_large_is_not_run_and_no_backend_is_asked(name: str) -> None:
    changed, reason = TOO_LARGE[name]
    session = Session(platform=Platform(), profile=profile_named("replay"), memory=Memory(host=8 * 10**9))
    session.declaration("reference")  # whose process takes its time once
    started, held = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = session.run(a_case(**changed), "reference", "all")
    assert {layer.outcome for layer in result.layers} == {Outcome.NOT_RUN}
    assert result.layers[0].reason.startswith(f"the case {reason}")
    assert time.perf_counter() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held < 2**16  # KiB


@pytest.mark.parametrize("command", ["replay", "power"])
def test_the_commands_refuse_it_in_one_sentence(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.json").write_text(json.dumps(a_case(paging=Paging(extra_columns=2**24)).to_data()))
    assert cli.main([command, str(tmp_path / "c.json")]) == 2
    said = "attnconf: c: the case has more than 16777216 entries in its block table; allowed: a smaller case\n"
    assert capsys.readouterr() == ("", said)


def test_the_time_grows_with_what_is_computed() -> None:
    small, long = a_case(), a_case(requests=(Request(prefix_len=1_000_000),))
    assert 0 < seconds(small, accelerated=True) <= seconds(small, accelerated=False) < 1
    assert 2 < seconds(long, accelerated=False) < MOST_SECONDS
    assert why_not_admitted(long, accelerated=False) is None
