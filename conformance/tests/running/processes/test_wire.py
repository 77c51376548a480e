"""What is read of a backend's answer: values of ours, in a process that has loaded nothing of the backend."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from attnconf.backends.triton.variants import launch_builds
from attnconf.cases.case import Case, Layer
from attnconf.cases.request import Request
from attnconf.cases.shape import kernel_shape
from attnconf.running.processes.wire import UnreadableError, read

LAYER = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=64, sm_scale=0.125)
CASE = Case(mode="decode", layers=(LAYER,), requests=(Request(prefix_len=40),))


def test_a_build_of_a_backend_of_ours_is_read_where_its_module_is_not_loaded() -> None:
    data = pickle.dumps(launch_builds(kernel_shape(CASE, 0)))
    code = (
        "import sys\n"
        "from attnconf.running.processes.wire import read\n"
        "assert not any(name.startswith('attnconf.backends.triton') for name in sys.modules)\n"
        "print(len(read(sys.stdin.buffer.read())))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)  # noqa: S603
    assert int(done.stdout) == len(launch_builds(kernel_shape(CASE, 0)))


def test_a_class_of_another_module_that_is_not_loaded_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "their_backend.py").write_text("class Build:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    import their_backend  # type: ignore[import-not-found]

    data = pickle.dumps(their_backend.Build())
    monkeypatch.delitem(sys.modules, "their_backend")
    with pytest.raises(UnreadableError, match="it holds a Build of their_backend"):
        read(data)
    assert "their_backend" not in sys.modules
