"""Under xdist: the same tests, cells, seed and exit statuses as in one process. Each test starts real workers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf import platforms
from attnconf.gate.receipt import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    Inner = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]


def test_the_same_cells_with_and_without_workers(inner: Inner, pytester: pytest.Pytester, toy_model: str) -> None:
    suite = ("--pyargs", "attnconf.suite", "--attnconf-profile=smoke", f"--attnconf-model={toy_model}")
    backends = ("--attnconf-backend=good", "--attnconf-backend=wrong", "--attnconf-backend=missing")
    families = ("-k", "decode or refusal")
    alone = inner(*suite, *backends, *families, "--attnconf-receipt=alone.json", "--junitxml=alone.xml")
    result = inner(*suite, *backends, *families, "--attnconf-receipt=two.json", "-n2")
    assert alone.ret == result.ret == 1
    assert set(alone.parseoutcomes()) == {"passed", "failed", "not_run", "unsupported", "deselected"}
    counts = [{k: v for k, v in run.parseoutcomes().items() if k != "deselected"} for run in (alone, result)]
    assert counts[0] == counts[1]
    one, two = (Receipt.read(pytester.path / name) for name in ("alone.json", "two.json"))
    assert one.cells == two.cells
    assert one.failures == two.failures
    assert {failed.backend for failed in one.failures} == {"wrong"}
    headers = [line for line in result.outlines if line.startswith("attnconf: profile")]
    assert headers == ["attnconf: profile smoke, seed 0"]
    assert [line for line in result.outlines if "cases executed" in line] == [
        line for line in alone.outlines if "cases executed" in line
    ]


def test_a_worker_that_dies_is_red_and_leaves_a_trace(replay: Inner, pytester: pytest.Pytester) -> None:
    result = replay("--attnconf-backend=dies", "--attnconf-backend=good", "--attnconf-receipt=r.json", "-n1")
    assert result.ret == 1
    assert result.parseoutcomes()["failed"] == 1
    cells = {cell.backend: cell for cell in Receipt.read(pytester.path / "r.json").cells}
    assert cells["dies"].crashed == 1
    assert "ended without a verdict" in next(iter(cells["dies"].reasons))
    assert cells["good"].passed == 1


def test_workers_get_the_controllers_seed_and_a_gpu_each(
    pytester: pytest.Pytester, inner: Inner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    pytester.makepyfile(
        """
        import os
        import pytest
        from pytest_attnconf.state import KEY

        @pytest.mark.parametrize("turn", range(4))
        def test_it(pytestconfig, turn, record_property):
            worker = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
            assert os.environ["CUDA_VISIBLE_DEVICES"] == ["GPU-a", "GPU-b", "GPU-a"][worker]
            assert pytestconfig.stash[KEY].seed == pytestconfig.workerinput["attnconf_seed"]
    """
    )
    result = inner("--attnconf-profile=nightly", "-n3")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["attnconf: 3 workers share 2 GPUs, in turn: GPU-a, GPU-b"])


def test_exit_statuses_are_the_controllers(replay: Inner, policy: str) -> None:
    assert replay("--attnconf-backend=missing", "-n1").ret == 10
    assert replay("--attnconf-policy=none.toml", "-n1").ret == 11
    assert replay("--attnconf-require-sm=10.0", "-n1").ret == 12
    del policy


def test_cases_that_each_worker_asks_count_once(replay: Inner, pytester: pytest.Pytester) -> None:
    result = replay("--attnconf-backend=good", "--attnconf-receipt=r.json", "-n2", "--dist=each")
    assert (result.ret, result.parseoutcomes()["passed"]) == (0, 2)
    receipt = Receipt.read(pytester.path / "r.json")
    assert [cell.executed for cell in receipt.cells] == [1]
    assert (receipt.cases, receipt.repeated) == (1, {"good": 1})
    result.stdout.fnmatch_lines(["1 case executed, 1 layer *", "good was asked 1 time for a case again: *"])


def test_a_backend_that_cannot_run_was_asked_for_nothing_again(replay: Inner) -> None:
    result = replay("--attnconf-backend=good", "--attnconf-backend=missing", "-n2", "--dist=each")
    result.stdout.fnmatch_lines(["good was asked 1 time for a case again: *"])
    result.stdout.no_fnmatch_line("missing was asked*")


def test_workers_that_hand_cases_on_go_without_torch(
    pytester: pytest.Pytester, toy_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    pytester.makeconftest(
        """
        import os, pathlib, sys

        def pytest_sessionfinish(session):
            who = os.environ.get("PYTEST_XDIST_WORKER", "controller")
            found = [name for name in ("torch", "attnconf.running.session") if name in sys.modules]
            pathlib.Path(session.config.rootpath, f"imported-{who}").write_text(" ".join(found))
    """
    )
    asked = ("--attnconf-backend=reference", f"--attnconf-model={toy_model}", "--attnconf-family=decode")
    suite = ("-p", "attnconf", "--pyargs", "attnconf.suite", "--attnconf-profile=smoke")
    result = pytester.runpytest_subprocess(*suite, *asked, "-n2")
    assert result.ret == 0
    assert result.parseoutcomes()["passed"]
    imported = [path.read_text() for path in pytester.path.glob("imported-gw*")]
    assert set(imported) == {"attnconf.running.session"}
    asked_torch = "torch" in (pytester.path / "imported-controller").read_text()
    assert asked_torch is platforms.has_driver()  # for the GPUs of this machine
