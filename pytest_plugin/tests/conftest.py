"""Toy backends, a toy case and a toy model for pytester runs: a run of the plugin that costs a fraction of a second.

torch and attnconf are imported here, once: pytester forgets the modules that an inner run imports, and torch cannot be
imported twice.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Protocol

import pytest

import attnconf.cases.models
import attnconf.gate.receipt
import attnconf.gate.verdict
import attnconf.policy.policy
import attnconf.policy.resolution
import attnconf.report.terminal
import attnconf.running.in_process  # and torch
import attnconf.running.judge
import attnconf.running.session
from attnconf.cases.case import Case, Layer, Paging
from attnconf.cases.geometry import LayerGeometry, ModelGeometry
from attnconf.cases.request import Request

if TYPE_CHECKING:
    from pathlib import Path

    from attnconf.gate.receipt import Receipt

TOYS = '''
"""Backends that differ from the reference in one way each."""

import os
from dataclasses import replace

import pytest

from attnconf.backends.builds import Build
from attnconf.backends.protocol import Unsupported
from attnconf.backends.reference import ReferenceBackend
from attnconf.errors import BackendUnavailableError, UnsupportedError


class Toy(ReferenceBackend):
    def __init__(self, name, after=None, before=None, evidence="kernel", reason=None, promises=None):
        self.name, self.evidence = name, evidence
        self.after, self.before, self.reason = after, before, reason
        self.promises = replace(ReferenceBackend.promises, **(promises or {}))

    def supports(self, shape, platform):
        return None if self.reason is None else Unsupported(self.reason)

    def prepare(self, batch):
        return Run(self, super().prepare(batch))


class Falls(Toy):
    def kernels(self, shape):
        return frozenset({"toy-fast"})


class Unbuilt(Toy):
    def builds(self, shapes):
        return tuple(Build("toy_" + mode, 3600.0) for mode in sorted({shape.mode for shape in shapes}))

    def is_built(self, build):
        return False

    def build(self, builds, jobs, progress):
        raise NotImplementedError

    def export(self, builds, folder):
        raise NotImplementedError


class Run:
    def __init__(self, toy, inner):
        self.toy, self.inner = toy, inner

    def run(self, layer, out, lse):
        if self.toy.before is not None:
            self.toy.before()
        kernel = self.inner.run(layer, out, lse)
        if self.toy.after is not None:
            self.toy.after(out)
        return kernel


def throw(error):
    def do():
        raise error

    return do


def unavailable(error):
    def make(platform):
        raise error

    return make


def toy(name, **how):
    return lambda platform: Toy(name, **how)


@pytest.hookimpl(optionalhook=True)
def pytest_attnconf_register_backends(registry):
    registry.register("good", toy("good"))
    registry.register("wrong", toy("wrong", after=lambda out: out.mul_(1.5)))
    registry.register("nan", toy("nan", after=lambda out: out.fill_(float("nan"))))
    registry.register("raises", toy("raises", before=throw(RuntimeError("launch failed"))))
    registry.register("memory", toy("memory", before=throw(MemoryError("no room"))))
    registry.register("exits", toy("exits", before=throw(SystemExit(3))))
    registry.register("refuses", toy("refuses", before=throw(UnsupportedError("not today"))))
    registry.register("dies", toy("dies", before=lambda: os._exit(7)))
    registry.register("leaves", toy("leaves", before=lambda: os._exit(0)))
    registry.register("tender", toy("tender", promises={"empty_q": False, "dead_k": frozenset({"zero", "stale"})}))
    registry.register("falls", lambda platform: Falls("falls"))
    registry.register("unbuilt", lambda platform: Unbuilt("unbuilt"))
    declined = "only on Tuesdays"
    registry.register("picky", toy("picky", reason=declined, before=throw(UnsupportedError(declined))))
    registry.register("paper", toy("paper", evidence="contract"))
    registry.register("missing", unavailable(BackendUnavailableError("missing needs libfoo: pip install libfoo")))
    registry.register("unloadable", unavailable(ImportError("no module named libbar")))
    registry.register("quits", unavailable(SystemExit(4)))
'''

FULL = {"kind": "full", "num_qo_heads": 2, "num_kv_heads": 1, "head_dim": 16, "sm_scale": 0.25}
SLIDING = {**FULL, "kind": "sliding", "window_left": 4}


class Inner(Protocol):
    """Run pytest with the plugin inside pytester's folder."""

    def __call__(self, *args: str) -> pytest.RunResult: ...


@pytest.fixture
def inner(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Inner:
    """Run pytest in this process, with the toy backends registered."""
    pytester.makeconftest(TOYS)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # an outer run's worker is none of the inner run's
    # attnconf is imported already, so its asserts cannot be rewritten: true of these inner runs only
    options = ("-p", "attnconf", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
    return lambda *args: pytester.runpytest_inprocess(*options, *args)


@pytest.fixture
def toy_case(pytester: pytest.Pytester) -> Case:
    """A case of one small layer, saved as case.json: the smallest that is evidence for a model."""
    geometry = attnconf.cases.models.load_model("llama3-8b").shard(8).layers[0]
    case = Case(
        model="llama3-8b@tp8",
        mode="decode",
        layers=(Layer.model_validate(geometry.model_dump()),),
        requests=(Request(prefix_len=20), Request(prefix_len=5)),
        paging=Paging(page_size=8),
    )
    (pytester.path / "case.json").write_text(json.dumps(case.to_data()))
    return case


@pytest.fixture
def toy_model(pytester: pytest.Pytester) -> str:
    """A model of two tiny layers, saved as toy.json."""
    layers = tuple(LayerGeometry.model_validate(data) for data in (FULL, SLIDING))
    (pytester.path / "toy.json").write_text(json.dumps(ModelGeometry(name="toy", layers=layers).to_data()))
    return "toy.json"


@pytest.fixture
def replay(inner: Inner, toy_case: Case) -> Inner:
    """Run the suite on the toy case alone."""
    del toy_case
    suite = ("--pyargs", "attnconf.suite", "--attnconf-profile=replay", "--attnconf-replay=case.json")
    return lambda *args: inner(*suite, *args)


@pytest.fixture
def policy(pytester: pytest.Pytester) -> str:
    """A policy whose default ``good`` must be proven in decode on full layers of llama3-8b."""
    text = """
schema = "attnconf.policy/1"
name = "toy"
provenance = { engine = "toy", version = "1", file = "toy.py" }
backends = { good = {}, paper = { sm = ["10.x"] } }
[[rules]]
name = "blackwell"
architectures = ["LlamaForCausalLM"]
sm = ["10.x"]
backend = "paper"
[[rules]]
name = "otherwise"
architectures = ["LlamaForCausalLM"]
backend = "good"
[[required]]
architectures = ["LlamaForCausalLM"]
models = ["llama3-8b"]
layer_kinds = ["full"]
modes = ["decode"]
"""
    (pytester.path / "toy.toml").write_text(text, encoding="utf-8")
    return "toy.toml"


@pytest.fixture
def receipt(pytester: pytest.Pytester) -> Receipt:
    """Read r.json when it is used."""
    return LateReceipt(pytester.path / "r.json")  # type: ignore[return-value]


class LateReceipt:
    """A receipt file that is read at each use."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __getattr__(self, name: str) -> object:
        return getattr(attnconf.gate.receipt.Receipt.read(self.path), name)
