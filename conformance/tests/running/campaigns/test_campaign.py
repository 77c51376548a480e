"""Campaigns over processes: what they count, and how they add up."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import pytest

from attnconf.backends.builds import Build, BuildReport
from attnconf.backends.flashinfer.trtllm_mha.backend import TrtllmMha
from attnconf.backends.reference import ReferenceBackend
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.shape import KernelShape
from attnconf.cli.campaign import campaign_lines
from attnconf.cli.main import main
from attnconf.cli.statuses import EXIT_INTERRUPTED
from attnconf.judging.result import CaseResult, LayerResult, Outcome
from attnconf.platforms import simulate
from attnconf.running.campaigns.campaign import Campaign, search
from attnconf.running.campaigns.campaign_report import CampaignReport, Tightness
from attnconf.running.campaigns.share import Share, explore_share
from attnconf.running.processes.engine import LostError
from attnconf.running.session import Session
from conformance.tests.support.shapes import a_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from attnconf.cases.case import Case
    from attnconf.cases.drawing.families import Family
    from attnconf.running.processes.engine import Found, Work

PAGED = "torch-paged (float32)"


class Here:
    """An engine of this process alone."""

    size = 1
    is_here = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(
        self, do: Callable[[Work], Found], pieces: Sequence[Work], **_: object
    ) -> Iterator[tuple[int, Found | LostError]]:
        for number, one in enumerate(pieces):
            try:
                yield number, do(one)
            except LostError as error:
                yield number, error

    def everywhere(self, do: Callable[[Work], Found], piece: Work) -> list[Found]:
        return [do(piece)]


def test_an_error_of_one_share_costs_that_share_and_its_failing_case_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Session.run
    asked: list[str] = []

    def run(self: Session, case: Case, *given: str, **how: bool) -> CaseResult:
        asked.append(case.model)
        if len(asked) == 3:  # an illegal access: the kernel's crash is a result, and whatever comes next raises
            lost = LayerResult(layer=0, outcome=Outcome.CRASHED, reason="illegal memory access")
            return replace(right(self, case, *given, **how), layers=(lost,))
        if len(asked) > 3 and case.mode == "decode":
            message = "CUDA error: an illegal memory access was encountered"
            raise RuntimeError(message)
        return right(self, case, *given, **how)

    monkeypatch.setattr(Session, "run", run)
    targets = (("decode", "llama3-8b"), ("extend", "llama3-8b"))
    report = search(Campaign(backend="reference", targets=targets, examples=8), Here())
    assert report.lost == ["decode of llama3-8b: RuntimeError: CUDA error: an illegal memory access was encountered"]
    assert report.cases == 3 + 4
    assert [layer.outcome for result in report.failures for layer in result.layers] == [Outcome.CRASHED]
    assert campaign_lines(report, "b")[-1] == f"LOST: an exploration of {report.lost[0]}"
    assert report.to_data()["lost"] == report.lost


def test_a_process_that_dies_is_named_and_fails_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def died(_share: Share) -> CampaignReport:
        message = "a child process terminated abruptly"
        raise LostError(message)

    monkeypatch.setattr("attnconf.cli.campaign.open_engine", lambda _: Here())
    monkeypatch.setattr("attnconf.running.campaigns.campaign.explore_share", died)
    assert main(["campaign", "--backend", "reference", "--examples", "1"]) == 1
    told = "LOST: an exploration of free of free: a child process terminated abruptly"
    assert told in capsys.readouterr().out


def lines(*units: float, reason: str = "") -> str:
    report = CampaignReport(cases=1, outcomes=Counter(passed=1), profiles={"k (float32)": Tightness([*units], reason)})
    return "\n".join(campaign_lines(report, "b"))


def test_a_profile_looser_than_tenfold_is_named_and_its_reason_with_it() -> None:
    assert "k (float32): profile looser than tenfold, and it declares no reason" in lines(0.01, 0.05)
    assert "looser than tenfold: keys cancel" in lines(0.05, reason="keys cancel")
    assert "looser" not in lines(0.05, 0.5, reason="keys cancel")


def test_a_row_has_the_worst_the_median_and_the_bins() -> None:
    row = next(line for line in lines(0.05, 0.15, 0.95, 1.5, 0.2).splitlines() if line.startswith("k (float32)"))
    assert row.split()[2:] == ["1.500", "0.200", "1", "2", *["0"] * 7, "1", "1"]


def test_a_case_that_was_declined_is_not_executed(tmp_path: Path) -> None:
    target = tmp_path / "found.json"
    for backend, executed in (("torch_sdpa", 0), ("reference", 2)):  # torch's function has no soft cap
        given = ["--family", "decode", "--model", "gemma2-9b", "--examples", "2", "--json", str(target)]
        main(["campaign", "--backend", backend, *given])
        found = json.loads(target.read_text())
        assert (found["cases"], found["executed"]) == (2, executed)


def test_the_query_rounded_to_eight_bits_gives_its_reason() -> None:
    shape = a_shape(
        kv_dtype="float8_e4m3fn", head_dim=128, num_qo_heads=8, num_kv_heads=1, page_size=32, kv_layout="NHD"
    )
    profile = TrtllmMha(simulate("9.0")).numerics(shape)
    assert "query float8_e4m3fn" in profile.text
    assert "Hoeffding" in profile.reason
    assert profile == replace(profile, reason="")


@dataclass
class Compiler(ReferenceBackend):
    """The reference with one kernel module a mode, on a machine that claims a GPU."""

    builds_seen: list[str] = field(default_factory=list)

    def builds(self, shapes: Iterable[KernelShape]) -> tuple[Build, ...]:
        return tuple(Build(mode, 1.0) for mode in sorted({shape.mode for shape in shapes}))

    def is_built(self, build: Build) -> bool:
        return build.name in self.builds_seen

    def build(self, builds: Sequence[Build], jobs: int, progress: Callable[[str], None]) -> BuildReport:
        progress(f"{len(builds)} with {jobs} jobs")
        self.builds_seen += [build.name for build in builds]
        return BuildReport(built=tuple(self.builds_seen), failures={"decode": "error: no"}, seconds=1.0)

    def export(self, builds: Sequence[Build], folder: Path) -> tuple[Path, ...]:
        raise NotImplementedError


def test_a_campaign_builds_before_its_first_case_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Compiler()
    ran: list[int] = []

    def explored(_share: Share) -> CampaignReport:
        ran.append(len(backend.builds_seen))
        return CampaignReport(cases=1)

    monkeypatch.setattr("attnconf.running.session.Registry.make", lambda *_: backend)
    monkeypatch.setattr("attnconf.running.campaigns.share.detect", lambda: simulate("9.0"))
    monkeypatch.setattr("attnconf.running.campaigns.campaign.explore_share", explored)
    said: list[str] = []
    campaign = Campaign(backend="reference", targets=(("free", "free"),), examples=30)
    report = search(campaign, Here(), said.append)
    assert said[0].startswith("4 kernel modules for these tests, 0 cached")
    assert said[1].startswith("4 with ")
    assert said[2] == "decode does not build: error: no"
    assert ran == [4]
    assert report.build_seconds > 0
    assert "kernels planned and built before" in "\n".join(campaign_lines(report, "b"))


def test_the_command_prints_and_writes_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "found.json"
    status = main(["campaign", "--backend", "reference", "--examples", "4", "--json", str(target)])
    assert status == 0
    assert "reference: " in capsys.readouterr().out
    data = json.loads(target.read_text())
    assert 0 < data["kernels"][PAGED]["median_units"] <= data["kernels"][PAGED]["worst_units"] <= 1


def test_a_campaign_that_is_ended_writes_what_it_found_until_then(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[Share] = []
    handlers: list[Any] = []

    def ended_in_the_second(asked: Share) -> CampaignReport:
        begun.append(asked)
        handlers.append(signal.getsignal(signal.SIGTERM))
        if len(begun) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return explore_share(asked)

    def once_more(report: CampaignReport, backend: str) -> list[str]:
        os.kill(os.getpid(), signal.SIGTERM)
        handlers[-1](signal.SIGTERM, None)  # one that had come before it was ignored
        return campaign_lines(report, backend)

    monkeypatch.setattr("attnconf.cli.campaign.open_engine", lambda _: Here())
    monkeypatch.setattr("attnconf.running.campaigns.campaign.explore_share", ended_in_the_second)
    monkeypatch.setattr("attnconf.cli.campaign.campaign_lines", once_more)  # ``timeout`` sends it twice
    target = tmp_path / "found.json"
    asked = ["--family", "decode", "--family", "extend", "--model", "llama3-8b", "--examples", "6"]
    assert main(["campaign", "--backend", "reference", *asked, "--json", str(target)]) == EXIT_INTERRUPTED
    found = json.loads(target.read_text())
    assert (found["cases"], found["interrupted"]) == (3, True)
    assert "reference: interrupted; the rest was not asked" in capsys.readouterr().out
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_shares_that_are_done_count_before_others_are() -> None:
    class EndedEarly(Here):
        def map(
            self, do: Callable[[Work], Found], pieces: Sequence[Work], **_: object
        ) -> Iterator[tuple[int, Found | LostError]]:
            if do is explore_share:
                yield 1, do(pieces[1])
                raise KeyboardInterrupt

    targets = (("decode", "llama3-8b"), ("extend", "llama3-8b"))
    found = search(Campaign(backend="reference", targets=targets, examples=4), EndedEarly())
    assert (found.cases, found.interrupted) == (2, True)


def test_what_was_found_is_written_before_the_processes_are_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Slow(Here):
        def __exit__(self, *_: object) -> None:
            raise KeyboardInterrupt

    monkeypatch.setattr("attnconf.cli.campaign.open_engine", lambda _: Slow())
    target = tmp_path / "found.json"
    asked = ["--family", "decode", "--model", "llama3-8b", "--examples", "2", "--json", str(target)]
    assert main(["campaign", "--backend", "reference", *asked]) == EXIT_INTERRUPTED
    assert json.loads(target.read_text())["cases"] == 2
    assert "reference: 2 cases" in capsys.readouterr().out


def test_a_campaign_is_spread_over_its_families_and_models() -> None:
    targets = (("decode", "gemma4-e2b"), ("extend", "gemma4-e2b"), ("decode", "gemma4-31b"))
    campaign = Campaign(backend="reference", targets=targets, examples=100, seed=3, seconds=60)
    shares = campaign.shares(3)
    assert [(share.family, share.model) for share in shares] == [*targets]
    assert len({share.seed for share in shares}) == 3
    assert {share.examples for share in shares} == {34}
    assert {share.seconds for share in shares} == {60}
    assert [share.seconds for share in campaign.shares(2)] == [30, 30, 30]


@pytest.mark.parametrize(("examples", "count", "each"), [(1, 2, 1), (100, 4, 25), (20_000, 64, 313)])
def test_the_shares_are_the_same_for_any_number_of_processes(examples: int, count: int, each: int) -> None:
    targets: tuple[tuple[Family, str], ...] = (("decode", "gemma4-e2b"), ("extend", "gemma4-e2b"))
    campaign = Campaign(backend="reference", targets=targets, examples=examples)
    shares = campaign.shares(1)
    assert shares == campaign.shares(64)
    assert (len(shares), {share.examples for share in shares}) == (count, {each})
    assert [(share.family, share.model) for share in shares[:2]] == [*targets]


def test_a_campaign_of_a_profile_has_its_counts_and_lengths() -> None:
    nightly = profile_named("nightly")
    targets: tuple[tuple[Family, str], ...] = (("decode", "gemma4-e2b"), ("free", "free"))
    shares = Campaign(backend="reference", targets=targets, examples=1, profile=nightly).shares(1)
    asked = Counter[str]()
    for one in shares:
        asked[one.family] += one.examples
    assert 0 <= asked["decode"] - nightly.examples["decode"] < len(shares)
    assert 0 <= asked["free"] - nightly.examples["free"] < len(shares)
    assert {(one.max_kv_len, one.long_kv_len) for one in shares} == {(nightly.max_kv_len, nightly.long_kv_len)}


def test_the_command_asks_every_family_of_a_model(tmp_path: Path) -> None:
    target = tmp_path / "found.json"
    given = ["--family", "decode", "--family", "shared_kv", "--model", "gemma4-e2b", "--model", "gemma4-31b"]
    assert main(["campaign", "--backend", "reference", "--examples", "3", *given, "--json", str(target)]) == 0
    data = json.loads(target.read_text())
    assert (data["families"], data["models"]) == (["decode", "shared_kv"], ["gemma4-e2b", "gemma4-31b"])
    assert data["cases"] == 3  # 31B shares no KV
    assert data["platform"]["device"]


def test_a_family_that_no_model_has_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    status = main(["campaign", "--backend", "reference", "--family", "shared_kv", "--model", "gemma4-31b"])
    assert status == 2
    told = capsys.readouterr().err
    allowed = "decode, extend, mixed, verify, windows, hybrid_pools"
    assert told == f"attnconf: --family: shared_kv of gemma4-31b; allowed: {allowed}\n"


def test_bad_numbers_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["campaign", "--backend", "reference", "--examples", "0"]) == 2
    assert capsys.readouterr().err == "attnconf: --examples: 0; allowed: 1 or more\n"
