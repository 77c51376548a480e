"""A project with a gate, planned and committed: what the gallery of false greens starts from."""

from __future__ import annotations

import json
import platform as python_platform
from typing import TYPE_CHECKING

from attnconf.cases.case import Case, Layer
from attnconf.cases.models import load_model
from attnconf.cases.request import Request
from attnconf.cli import main as cli
from attnconf.gate.plans.fleet_plan import FleetPlan
from attnconf.gate.receipt import record_platform
from attnconf.gate.sealed import seal
from attnconf.platforms import detect
from conformance.tests.support.gate_receipts import receipt_of
from conformance.tests.support.gate_repository import git

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

POLICY = """
schema = "attnconf.policy/1"
name = "toy"
provenance = {{ engine = "toy", version = "1", file = "toy.py" }}
backends = {{ {0} = {{}} }}
[[rules]]
name = "everywhere"
architectures = ["GptOssForCausalLM"]
backend = "{0}"
[[required]]
architectures = ["GptOssForCausalLM"]
models = ["gpt-oss-20b"]
layer_kinds = ["sliding"]
modes = ["decode", "extend"]
effective = {{ sliding = ["window"] }}
"""
"""The default is to be filled in; it must be proven in two cells."""

FLEET = 'schema = "attnconf.fleet/1"\n[[runners]]\nname = "cpu"\nlabels = ["ubuntu-24.04"]\n'


class Project:
    """A repository with a policy, a fleet and two recorded cases of gpt-oss-20b, in which the window matters."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path, self.monkeypatch = path, monkeypatch
        (path / "cases").mkdir()
        self.record("decode", prefix_len=200)
        self.record("extend", prefix_len=200)

    def record(self, mode: str, prefix_len: int) -> None:
        geometry = next(one for one in load_model("gpt-oss-20b").shard(8).layers if one.kind == "sliding")
        layers = (Layer.model_validate(geometry.model_dump()),)
        requests = (Request(prefix_len=prefix_len, new_tokens=1 if mode == "decode" else 5),)
        case = Case.model_validate({"model": "gpt-oss-20b@tp8", "mode": mode, "layers": layers, "requests": requests})
        (self.path / "cases" / f"{mode}.json").write_text(json.dumps(case.to_data()))

    def plan(self, policy: str, fleet: str) -> int:
        """Commit the policy and the fleet, and plan the commit; return the exit status of ``attnconf plan``."""
        (self.path / "toy.toml").write_text(policy)
        (self.path / "fleet.toml").write_text(fleet)
        git(self.path, "init", "-q")
        git(self.path, "add", "toy.toml", "fleet.toml", "conftest.py")
        self.commit()
        return self.replan()

    def replan(self) -> int:
        return cli.main(["plan", "--policy", "toy.toml", "--fleet", "fleet.toml", "-o", "plan.json"])

    def commit(self) -> None:
        git(self.path, "commit", "-qm", "change", "--allow-empty")

    def conftest(self, text: str, *beside: str) -> None:
        """Add to the conftest, commit it and what stands ``beside`` it, and plan that commit."""
        path = self.path / "conftest.py"
        path.write_text(f"{path.read_text()}\n{text}\n")
        git(self.path, "add", "conftest.py", *beside)
        self.commit()
        self.replan()

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text)

    def require_own_model(self) -> None:
        """Require a model by the path of its config.json, commit that, plan it, and record toys that bear its name."""
        config = {"model_type": "mistral", "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 1}
        (self.path / "own").mkdir()
        self.write("own/config.json", json.dumps({**config, "head_dim": 64, "sliding_window": 128}))
        policy = (self.path / "toy.toml").read_text()
        self.write("toy.toml", policy.replace('["gpt-oss-20b"]', '["own/config.json"]'))
        git(self.path, "add", "own/config.json", "toy.toml")
        self.commit()
        self.replan()
        toy = Layer(kind="sliding", window_left=127, num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25)
        for mode, new_tokens in (("decode", 1), ("extend", 5)):
            requests = (Request(prefix_len=200, new_tokens=new_tokens),)
            case = Case.model_validate({"model": "own", "mode": mode, "layers": (toy,), "requests": requests})
            self.write(f"cases/{mode}.json", json.dumps(case.to_data()))

    def untrack(self, name: str) -> None:
        """Commit that ``name`` is gone, while it stays in the folder, and plan that commit."""
        git(self.path, "rm", "-q", "--cached", name)
        self.commit()
        self.replan()

    def hide(self, name: str) -> None:
        """Change ``name`` and tell git to take it for unchanged."""
        git(self.path, "update-index", "--assume-unchanged", name)
        path = self.path / name
        path.write_text(path.read_text() + "\n# changed\n")

    def leave_a_green_receipt(self) -> None:
        """Write r.json as an earlier run of the plan's job left it, if the plan has that job."""
        plan = FleetPlan.read(self.path / "plan.json")
        if plan.runner_of("cpu") is not None:
            here = record_platform(detect(), python_platform.python_version())
            receipt_of(plan, "cpu", platform=here).write(self.path / "r.json")

    def seal_again(self, name: str, **fields: object) -> None:
        """Change fields of a receipt, and seal it as its writer would have."""
        data = {**json.loads((self.path / name).read_text()), **fields}
        (self.path / name).write_text(json.dumps({**data, "digest": seal(data)}))

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.path / name).read_text()
        assert old in text
        (self.path / name).write_text(text.replace(old, new, 1))
