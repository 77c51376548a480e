"""A process of its own: what ends it costs one result, and the next case is judged."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch

from attnconf.backends.protocol import Promises
from attnconf.cases.case import Case, Layer
from attnconf.cases.drawing.profiles import profile_named
from attnconf.cases.request import Request
from attnconf.cases.shape import kernel_shape
from attnconf.errors import BackendUnavailableError
from attnconf.judging.posed import PosedCase
from attnconf.judging.result import Outcome
from attnconf.judging.run import run_case
from attnconf.platforms import Platform, simulate
from attnconf.running.processes.asked import AskedBackend
from attnconf.running.processes.declaration import Declaration
from attnconf.running.processes.isolation import IsolatedBackend
from attnconf.running.processes.last_words import reason
from attnconf.running.processes.messages import Spec
from attnconf.running.session import Session
from conformance.tests.support import wrecking

if TYPE_CHECKING:
    from collections.abc import Iterator

LAYER = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25)


def case(kv_len: int) -> Case:
    return Case(mode="decode", layers=(LAYER, LAYER), requests=(Request(prefix_len=kv_len - 1),))


@pytest.fixture
def isolate() -> Iterator[object]:
    made: list[IsolatedBackend] = []

    def make(factory: object, seconds: float = 60.0) -> IsolatedBackend:
        name = getattr(factory, "__name__", "wrecking")
        spec = Spec(name, Platform(), factory)  # type: ignore[arg-type]
        made.append(IsolatedBackend(spec, seconds=seconds))
        return made[-1]

    yield make
    for backend in made:
        backend.stop()


@pytest.mark.parametrize(("factory", "reason"), [(wrecking.segfault, "SIGSEGV"), (wrecking.leave, "exit status 7")])
def test_a_process_that_dies_is_one_crashed_result(isolate, factory, reason) -> None:  # noqa: ANN001
    backend = isolate(factory)
    assert {layer.outcome for layer in backend.run(case(20)).layers} == {Outcome.PASSED}
    lost = backend.run(case(wrecking.TRIGGER))
    assert [layer.outcome for layer in lost.layers] == [Outcome.CRASHED] * 2
    assert reason in lost.layers[0].reason
    assert {layer.outcome for layer in backend.run(case(21)).layers} == {Outcome.PASSED}
    assert backend.starts == 2


def test_what_is_declared_unsupported_is_asked_there_too(isolate) -> None:  # noqa: ANN001
    """A shape that nobody should launch is the likeliest to take the process down."""
    backend = isolate(wrecking.undeclared)
    assert {layer.outcome for layer in backend.probe(case(20)).layers} == {Outcome.UNSUPPORTED}
    assert [layer.outcome for layer in backend.probe(case(wrecking.TRIGGER)).layers] == [Outcome.CRASHED] * 2
    assert {layer.outcome for layer in backend.probe(case(21)).layers} == {Outcome.UNSUPPORTED}


def test_the_last_words_of_a_process_say_why_and_are_passed_on(isolate, capfd) -> None:  # noqa: ANN001
    backend = isolate(wrecking.abort)
    lost = backend.run(case(wrecking.TRIGGER))
    why = "the process died (SIGABRT): CUDA error: an illegal memory access was encountered"
    assert lost.layers[0].reason == why
    assert capfd.readouterr().err.count("terminate called") == 1
    assert not backend.run(case(20)).is_failure
    assert backend.run(case(wrecking.TRIGGER)).layers[0].reason == why


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", ""),
        ("a word\n\n", "a word"),
        ("RuntimeError: no\nfor debugging\n", "RuntimeError: no"),
        ("  what():   first\n  what():  second error\nan error\n", "second error"),
        ("Error: " + "x" * 500, "Error: " + "x" * 31 + "..." + "x" * 31),
    ],
)
def test_the_reason_is_one_line(said: str, why: str) -> None:
    assert reason(said) == why


def test_a_hang_is_one_crashed_result(isolate) -> None:  # noqa: ANN001
    backend = isolate(wrecking.hang)
    assert not backend.run(case(20)).is_failure
    backend._seconds = 1.0
    lost = backend.run(case(wrecking.TRIGGER))
    assert lost.layers[0].outcome is Outcome.CRASHED
    assert lost.layers[0].reason == "no answer within 1 s: the process was ended"
    backend._seconds = 60.0
    assert not backend.run(case(20)).is_failure


def test_an_exception_needs_no_new_process(isolate) -> None:  # noqa: ANN001
    backend = isolate(wrecking.complain)
    assert "an ordinary exception" in backend.run(case(wrecking.TRIGGER)).layers[0].reason
    assert not backend.run(case(20)).is_failure
    assert backend.starts == 1


def test_a_process_has_its_callers_environment_of_the_moment_it_starts(isolate, monkeypatch) -> None:  # noqa: ANN001
    assert not isolate(wrecking.complain).run(case(20)).is_failure
    monkeypatch.setenv(wrecking.SAID, "a word set later")
    monkeypatch.delenv("HOME", raising=False)
    told = isolate(wrecking.recite).run(case(wrecking.TRIGGER)).layers[0].reason
    assert told.startswith("RuntimeError: a word set later, and no HOME")


def test_the_processes_share_one_import_of_torch(isolate) -> None:  # noqa: ANN001
    told = [isolate(wrecking.recite).run(case(wrecking.TRIGGER)).layers[0].reason for _ in range(2)]
    assert told[0] == told[1]
    parent = int(told[0].rpartition(" ")[2])
    assert parent != os.getpid()
    assert "libtorch" in Path(f"/proc/{parent}/maps").read_text()


def test_the_input_is_not_looked_at_behind_the_last_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(posed: PosedCase) -> str | None:
        if posed.done:  # type: ignore[attr-defined]
            message = "the device is lost"
            raise RuntimeError(message)
        return None

    class Losing(wrecking.Wrecking):
        def prepare(self, batch: object) -> object:
            del batch
            monkeypatch.setattr(PosedCase, "done", True)
            message = "CUDA error: an illegal memory access was encountered"
            raise RuntimeError(message)

    monkeypatch.setattr(PosedCase, "done", False, raising=False)
    monkeypatch.setattr(PosedCase, "changed_input", lost)
    result = run_case(case(20), Losing("exit"), Platform(), torch.device("cpu"))
    assert "illegal memory access" in result.layers[0].reason


def test_a_backend_that_does_not_start_says_why(isolate) -> None:  # noqa: ANN001
    with pytest.raises(BackendUnavailableError, match="not on cpu"):
        isolate(wrecking.never).run(case(20))


def test_a_backend_that_does_not_come_up_again_is_a_crashed_result_each_time(isolate, tmp_path, monkeypatch) -> None:  # noqa: ANN001
    monkeypatch.setenv(wrecking.ONCE, str(tmp_path / "came up"))
    backend = isolate(wrecking.once)
    assert "SIGSEGV" in backend.run(case(wrecking.TRIGGER)).layers[0].reason
    for _ in range(2):
        again = backend.run(case(20)).layers[0]
        assert again.outcome is Outcome.CRASHED
        assert again.reason.startswith("it does not come up again: backend once does not start: RuntimeError: a lock")
    assert backend.starts == 2


def test_a_factory_that_cannot_be_sent_is_refused_at_once(isolate) -> None:  # noqa: ANN001
    def local(platform: Platform) -> wrecking.Wrecking:
        return wrecking.leave(platform)

    with pytest.raises(BackendUnavailableError, match="cannot run in a process of its own"):
        isolate(local)


@pytest.mark.parametrize(("platform", "said"), [(simulate("9.0"), "imported 1"), (Platform(), "imported 0")])
def test_a_library_is_imported_ahead_where_a_gpu_is_and_what_that_raises_counts_later(
    platform: Platform, said: str
) -> None:
    session = Session(platform, profile_named("smoke"), isolate=True)
    session.registry.register("importing", wrecking.importing)
    declared = session.asked("importing").supports(kernel_shape(case(20), 0), platform)
    session.close()
    assert declared is not None
    assert declared.reason == said


def test_a_backend_that_another_process_knows_is_not_started_to_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def start() -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr("attnconf.running.processes.server.forkserver.ensure_running", start)
    declared = Declaration("reference", "kernel", Promises(lse="natural"), is_builder=False, files=())
    session = Session(Platform(), profile_named("smoke"), isolate=True)
    session.adopt({"reference": "it does not come up", "torch_sdpa": "no torch"})
    session.adopt({"reference": declared})
    session.adopt({"reference": "it does not come up"})  # what one worker has seen is so
    assert session.declaration("reference") == declared
    assert session.why_not("torch_sdpa") == "no torch"
    assert session.known == {"reference": declared, "torch_sdpa": "no torch"}


def test_what_a_process_writes_without_end_is_kept_to_its_end(isolate, capfd) -> None:  # noqa: ANN001
    lost = isolate(wrecking.shout).run(case(wrecking.TRIGGER))
    assert lost.layers[0].reason == "the process died (exit status 7): Error: the end"
    said = capfd.readouterr().err
    assert len(said) < 20_000
    assert "bytes left out]" in said


def test_what_a_process_started_ends_with_it_and_holds_nobody_up(isolate, tmp_path, monkeypatch) -> None:  # noqa: ANN001
    monkeypatch.setenv(wrecking.CHILD, str(tmp_path / "child"))
    lost = isolate(wrecking.bear).run(case(wrecking.TRIGGER))
    assert lost.layers[0].reason == "the process died (exit status 7)"
    assert lost.seconds < 30.0
    assert _is_gone(int((tmp_path / "child").read_text()))


SCRIPT = """
import os
from attnconf.cases.drawing.profiles import profile_named
from attnconf.platforms import Platform
from attnconf.running.session import Session

session = Session(Platform(), profile_named("replay"))
print(session.why_not("reference"))
print(session._isolated["reference"]._process._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_script_without_a_guard_is_not_run_again_and_no_process_outlives_it(tmp_path: Path) -> None:
    """Nor does a module of the folder in which it runs take the place of Python's own."""
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "signal.py").write_text("raise RuntimeError('a module of the folder')")
    command = [sys.executable, "-P", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
    assert done.returncode == -signal.SIGKILL, done.stderr
    why_not, process = done.stdout.splitlines()
    assert why_not == "None"
    assert _is_gone(int(process))


def _is_gone(process: int) -> bool:
    """Return whether a process has ended within some seconds: what killed it need not wait for that."""
    until = time.monotonic() + 10.0
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    return False


def test_where_no_process_can_be_started_the_reason_is_a_sentence(isolate, monkeypatch) -> None:  # noqa: ANN001
    def start() -> None:
        raise OSError(errno.ENAMETOOLONG, "AF_UNIX path too long")

    monkeypatch.setattr("attnconf.running.processes.server.forkserver.ensure_running", start)
    says = (
        r"no process can be started for backend complain \(OSError: .*AF_UNIX path too long\); --attnconf-isolate=off"
    )
    with pytest.raises(BackendUnavailableError, match=says):
        isolate(wrecking.complain).declaration()


def test_what_is_declared_of_a_shape_is_asked_there(isolate) -> None:  # noqa: ANN001
    asked, shape = AskedBackend(isolate(wrecking.leave)), kernel_shape(case(20), 0)
    assert asked.supports(shape, Platform()) is None
    assert asked.numerics(shape).text
    with pytest.raises(BackendUnavailableError, match="backend leave, asked for builds: AttributeError"):
        asked.builds([shape])
