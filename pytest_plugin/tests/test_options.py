"""Every option, and what a value that cannot be used says: one sentence, no traceback, a non-zero exit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

import attnconf.platforms
import attnconf.suite

if TYPE_CHECKING:
    from collections.abc import Callable

    Inner = Callable[..., pytest.RunResult]

pytest_plugins = ["pytester"]

BAD = {
    "profile": (["--attnconf-profile=deep"], "--attnconf-profile: 'deep'; allowed: smoke, gate, nightly, replay"),
    "backend": (["--attnconf-backend=cuda"], "--attnconf-backend: 'cuda'; allowed: dies, *"),
    "model": (["--attnconf-model=gemma9"], "model: 'gemma9'; allowed: *gemma4-e2b*"),
    "seed": (["--attnconf-seed=-1"], "--attnconf-seed: '-1'; allowed: a whole number of up to 18 digits"),
    "seed text": (["--attnconf-seed=x"], "--attnconf-seed: 'x'; allowed: a whole number of up to 18 digits"),
    "seed digits": (["--attnconf-seed=" + "9" * 19], "--attnconf-seed: '9999*"),
    "receipt": (["--attnconf-receipt=."], "--attnconf-receipt: . is a folder; allowed: a file to write"),
    "sm": (["--attnconf-sm=ten", "--attnconf-policy=sglang-gemma4"], "SM: compute capability is 'ten'; allowed: *"),
    "sm alone": (["--attnconf-sm=10.0"], "--attnconf-sm; allowed: beside --attnconf-policy, which *"),
    "require-sm": (["--attnconf-require-sm=SM100"], "--attnconf-require-sm: 'SM100'; allowed: *"),
    "replay": (["--attnconf-replay=nowhere.json"], "*nowhere.json: cannot be read (No such file or directory)"),
    "replay folder": (["--attnconf-replay=empty"], "*empty: holds no case files; allowed: *"),
    "replay text": (["--attnconf-replay=bad.json"], "*bad.json: line 1 is *; allowed: a JSON document"),
    "replay case": (["--attnconf-replay=odd.json"], "*odd.json: layers*"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_one_sentence(inner: Inner, pytester: pytest.Pytester, name: str) -> None:
    (pytester.path / "empty").mkdir()
    (pytester.path / "bad.json").write_text("{")
    (pytester.path / "odd.json").write_text('{"mode": "decode"}')
    options, sentence = BAD[name]
    result = inner("--pyargs", "attnconf.suite", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {sentence}"])
    assert "Traceback" not in result.stderr.str() + result.stdout.str()
    assert len([line for line in result.errlines if line]) == 1


def test_a_hook_of_the_user_that_raises_is_one_sentence(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("def pytest_attnconf_register_backends(registry):\n    registry.add('x')\n")
    result = pytester.runpytest_inprocess("-p", "attnconf", "--attnconf-profile=smoke")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: pytest_attnconf_register_backends: AttributeError: *"])


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--attnconf-isolate=maybe", "*--attnconf-isolate: invalid choice: 'maybe' (choose from *auto*on*off*)"),
        ("--attnconf-case-seconds=soon", "*--attnconf-case-seconds: 'soon' is not a number of seconds, 0 or more"),
    ],
)
def test_isolation_is_on_off_or_auto_and_seconds_are_a_number(inner: Inner, option: str, sentence: str) -> None:
    result = inner("--pyargs", "attnconf.suite", option)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([sentence])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ("--attnconf-case-seconds=9",),
            "ERROR: --attnconf-case-seconds: backend good runs in pytest's own process, where nothing can end a case*",
        ),
        (
            ("--attnconf-isolate=on",),
            "ERROR: --attnconf-isolate: backend good cannot run in a process of its own, which cannot import its*",
        ),
    ],
)
def test_what_no_process_can_keep_is_refused_before_any_test(
    replay: Inner, options: tuple[str, ...], sentence: str
) -> None:
    result = replay("--attnconf-backend=good", *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([sentence])


def test_naming_a_thing_twice_asks_it_once(inner: Inner, toy_model: str) -> None:
    twice = ("--attnconf-backend=good", "--attnconf-backend=good", f"--attnconf-model={toy_model}") * 2
    result = inner("--pyargs", "attnconf.suite", "--attnconf-profile=smoke", *twice, "--collect-only", "-q")
    nodes = [line for line in result.outlines if "::" in line]
    assert len(nodes) == len(set(nodes))
    assert [node for node in nodes if "test_decode" in node and "[good-" in node] == [
        "test_decode.py::test_decode[good-toy.json]"
    ]


def test_models_named_are_the_only_ones(inner: Inner, toy_model: str) -> None:
    def nodes(*models: str) -> list[str]:
        asked = [f"--attnconf-model={model}" for model in models]
        run = inner("--pyargs", "attnconf.suite", "--attnconf-backend=good", *asked, "--collect-only", "-q")
        return [line.partition("::")[2] for line in run.outlines if "::" in line]

    assert "test_free[good-free]" not in nodes(toy_model)
    assert [node for node in nodes("free") if "free" in node] == ["test_free[good-free]", "test_machine[good-free]"]
    assert {"test_free[good-free]", "test_decode[good-toy.json]"} <= set(nodes("free", toy_model))


def test_collect_only_runs_nothing_and_judges_nothing(inner: Inner, toy_model: str, pytester: pytest.Pytester) -> None:
    (pytester.path / "r.json").write_text("an older one")
    options = ("--attnconf-backend=dies", f"--attnconf-model={toy_model}", "--attnconf-receipt=r.json")
    result = inner("--pyargs", "attnconf.suite", *options, "--collect-only")
    assert result.ret == 0
    assert not (pytester.path / "r.json").exists()


def test_a_filter_that_leaves_nothing_is_red(inner: Inner, toy_model: str) -> None:
    options = ("--attnconf-backend=good", f"--attnconf-model={toy_model}", "-k", "no_such_test")
    result = inner("--pyargs", "attnconf.suite", *options)
    assert result.ret == 10
    result.stdout.fnmatch_lines(["NOT MET: nothing was executed*"])


def test_families_without_a_question_are_deselected_not_skipped(inner: Inner, toy_case: object) -> None:
    del toy_case
    replay = ("--attnconf-profile=replay", "--attnconf-replay=case.json", "--attnconf-backend=good")
    result = inner("--pyargs", "attnconf.suite", *replay, "-o", "empty_parameter_set_mark=fail_at_collect")
    outcomes = result.parseoutcomes()
    assert set(outcomes) == {"passed", "deselected"}
    assert outcomes["passed"] == 1


def test_an_empty_file_among_recorded_cases_is_said_and_left_out(
    inner: Inner, pytester: pytest.Pytester, toy_case: object
) -> None:
    del toy_case
    folder = pytester.mkdir("kept")
    (pytester.path / "case.json").rename(folder / "case.json")
    (folder / "cut.json").touch()
    result = inner(
        "--pyargs", "attnconf.suite", "--attnconf-profile=replay", "--attnconf-replay=kept", "--attnconf-backend=good"
    )
    assert result.parseoutcomes()["passed"] == 1
    result.stdout.fnmatch_lines(["attnconf: *kept/cut.json is empty, and left out"])


def test_the_suite_by_path_is_the_suite(inner: Inner) -> None:
    result = inner(attnconf.suite.__path__[0], "-k", "no_such_test")
    assert result.ret == 10
    result.stdout.fnmatch_lines(["attnconf: profile gate, seed 0", "NOT MET: nothing was executed*"])


def test_the_header_names_machine_profile_backends(replay: Inner) -> None:
    result = replay("--attnconf-backend=good", "--attnconf-backend=missing", "--attnconf-seed=7")
    result.stdout.fnmatch_lines(
        [
            "attnconf: *torch *triton *flashinfer-python *",
            "attnconf: profile replay, seed 7",
            "attnconf: backend good",
            "attnconf: backend missing: missing: missing needs libfoo: pip install libfoo",
        ]
    )


def test_a_progress_line_comes_now_and_then(replay: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
    quiet = replay("--attnconf-backend=good")
    quiet.stdout.no_fnmatch_line("attnconf: * s, *")
    monkeypatch.setattr("pytest_attnconf.reporting.PROGRESS_SECONDS", 0.0)
    result = replay("--attnconf-backend=good", "--attnconf-backend=wrong")
    result.stdout.fnmatch_lines(["attnconf: * s, 2 tests, 2 cases, 2 layers judged, 1 broken"])


@pytest.mark.parametrize("workers", [(), ("-n1",)])
def test_a_progress_line_stands_alone(replay: Inner, monkeypatch: pytest.MonkeyPatch, workers: tuple[str, ...]) -> None:
    monkeypatch.setattr("pytest_attnconf.reporting.PROGRESS_SECONDS", 0.0)
    result = replay("--attnconf-backend=good", "--attnconf-backend=wrong", "-q", *workers)
    lines = [line for line in result.outlines if re.search(r" layers? judged,", line) and " s, " in line]
    assert len(lines) == 2
    assert all(line.startswith("attnconf: ") for line in lines)


def test_an_engine_s_backends_are_asked_where_the_engine_is(inner: Inner, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*options: str) -> set[str]:
        run = inner("--pyargs", "attnconf.suite", "--attnconf-family=decode", *options, "--collect-only", "-q")
        return {name for name in ("sglang:triton", "vllm:triton") if name in run.stdout.str()}

    real = attnconf.platforms.installed_packages
    for installed, expected in (({}, set()), ({"vllm": "0.33.0"}, {"vllm:triton"})):
        packages = {name: version for name, version in real().items() if name not in {"sglang", "vllm"}} | installed
        monkeypatch.setattr(attnconf.platforms, "installed_packages", lambda packages=packages: packages)
        assert asked() == expected
    assert asked("--attnconf-backend=sglang:triton") == {"sglang:triton"}
