"""Targets: every reader behind the commands that use it, with a right file, and what a green status then says."""

from __future__ import annotations

import inspect
import json
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attnconf.cases.case import Case, Layer, Paging, Poison
from attnconf.cases.models import load_model
from attnconf.cases.request import Request
from attnconf.cli.main import main
from attnconf.cli.statuses import EXIT_BAD_INPUT, EXIT_FAILED, EXIT_NOTHING_EXECUTED, EXIT_POLICY_INVALID
from attnconf.errors import AttnconfError
from attnconf.gate.evidence import evidence_of
from attnconf.gate.plans.fleet import parse_fleet
from attnconf.gate.plans.fleet_plan import FleetPlan, plan_fleet
from attnconf.gate.receipt import Receipt
from attnconf.gate.sealed import seal
from attnconf.policy.policy import parse_policy, policy_digest
from attnconf_fixtures import ROOT
from conformance.tests.support.dumped import decode
from conformance.tests.support.gate_receipts import receipt_of
from conformance.tests.support.gate_repository import AFTER, FLEET
from conformance.tests.support.receipts import everything
from conformance.tests.support.speed_receipts import speed_cell, speed_receipt

SHA = "0" * 40
PLAN = plan_fleet(parse_policy(AFTER, "after"), parse_fleet(FLEET, "fleet"), SHA)
SMALL = Case(
    mode="decode",
    layers=(Layer(kind="sliding", window_left=7, num_qo_heads=2, num_kv_heads=1, head_dim=16, sm_scale=0.25),),
    requests=(Request(prefix_len=20), Request(prefix_len=3)),
    paging=Paging(page_size=8),
    poison=Poison(k="nan", v="huge"),
)
NO_GREEN = (EXIT_BAD_INPUT, EXIT_POLICY_INVALID)
Call = Callable[[Path, Path, random.Random], int]
"""Runs a command in a folder of its own, on a file, and returns its status."""


@dataclass(frozen=True)
class Target:
    """One kind of file, and the command that reads it.

    ``rights`` are right files. ``green`` says whether 0 may be the status of ``call`` on a text. ``statuses`` are those
    that it may end with; ``weight`` is its share of the inputs. A ``sealed`` file has a digest that may be made anew.
    """

    name: str
    suffix: str
    rights: tuple[str, ...]
    call: Call
    statuses: tuple[int, ...] = (0, *NO_GREEN)
    green: Callable[[str], bool] = lambda _text: True
    sealed: bool = False
    weight: int = 1


def prepare(folder: Path) -> None:
    """Write the right files that the commands take beside the mutated one."""
    (folder / "policy.toml").write_text(AFTER)
    (folder / "fleet.toml").write_text(FLEET)
    PLAN.write(folder / "plan.json")
    (folder / "served.json").write_text(_SERVED)
    for job in ("cpu", "b200"):
        receipt_of(PLAN, job).write(folder / f"{job}.json")


def _command(*words: str) -> Call:
    """Return a command by its words, in which {file} and {folder} stand for the paths."""
    return lambda folder, file, _rng: main([word.format(folder=folder, file=file) for word in words])


_TERMS = ("--sha", SHA, "{folder}/cpu.json")
_verify = _command("verify", "--policy", "{folder}/policy.toml", "--plan", "{folder}/plan.json", *_TERMS, "{file}")
_verify_plan = _command("verify", "--policy", "{folder}/policy.toml", "--plan", "{file}", *_TERMS, "{folder}/b200.json")
_verify_policy = _command("verify", "--policy", "{file}", "--plan", "{folder}/plan.json", *_TERMS, "{folder}/b200.json")


def _report(folder: Path, file: Path, rng: random.Random) -> int:
    files = ["--html", str(folder / "o.html"), "--md", str(folder / "o.md")]
    return main(["report", str(file), *files, "--format", rng.choice(("text", "github"))])


def _report_speed(folder: Path, file: Path, _rng: random.Random) -> int:
    files = ["--html", str(folder / "o.html"), "--md", str(folder / "o.md"), "--json", str(folder / "o.json")]
    return main(["report", "--speed", str(file), "--against", str(file), *files])


def _model(_folder: Path, file: Path, _rng: random.Random) -> int:
    try:
        load_model(str(file)).case_layers()
    except AttnconfError as error:
        return 0 if str(error).isprintable() else EXIT_FAILED
    return 0


def _proves(text: str) -> bool:
    """Whether a receipt is green in the eyes of someone who knows the fixed plan, and not attnconf."""
    data: dict[str, Any] = json.loads(text)
    where = data["platform"]
    right = (data["git_sha"], data["plan"], data["job"], where["sm"], where["cuda"], where["flashinfer"])
    if right != (SHA, PLAN.identity, "b200", "10.0", "13.0", "0.6.13") or where.get("simulated", False):
        return False
    if data["exit_status"] != 0 or data["policy"]["digest"] != PLAN.policy.digest or data["digest"] != seal(data):
        return False
    if any(cell[name] for cell in data["cells"] for name in ("failed", "refused", "crashed", "oom")):
        return False
    return all(_is_shown(wanted, data["cells"]) for wanted in PLAN.job_named("b200").cells)


def _is_shown(wanted: Any, cells: list[dict[str, Any]]) -> bool:  # noqa: ANN401 - a required cell
    place = (wanted.backend, wanted.model, wanted.layer_kind, wanted.mode)
    names = ("backend", "layer_kind", "mode")
    found = [
        cell
        for cell in cells
        if tuple(cell[name] for name in names) == (place[0], *place[2:]) and cell["model"].partition("@")[0] == place[1]
    ]
    proven = {name for cell in found for name in cell["features"]}
    return sum(cell["passed"] for cell in found) >= 1 and set(wanted.effective) <= proven


def _proves_merged(text: str) -> bool:
    return any(_proves(json.dumps(one)) for one in json.loads(text)["receipts"])


def _same_plan(text: str) -> bool:
    return FleetPlan.from_data(json.loads(text), "plan").identity == PLAN.identity


def _same_policy(text: str) -> bool:
    return policy_digest(parse_policy(text, "policy")) == PLAN.policy.digest


def _accounts(text: str) -> bool:
    """Whether each request of a serving result that lists its requests is completed or explained."""
    decoder, at = json.JSONDecoder(), 0
    while (rest := text[at:].lstrip()) != "":
        data, end = decoder.raw_decode(rest)
        at = len(text) - len(rest) + end
        if "request_count" in data:
            if not data["request_count"]["avg"] > 0:
                return False
            continue
        errors = data.get("errors")
        if sum(length > 0 for length in data.get("output_lens") or ()) not in {0, data["completed"]}:
            return False
        asked = data.get("num_prompts") or len(errors)
        explained = sum(bool(error and error.strip()) for error in errors or ()) + int(data.get("aborted") or 0)
        if not data["completed"] > 0 or data["completed"] + explained != asked:
            return False
    return True


def _keeps_books(text: str) -> bool:
    """Whether each request of a ledger stands there once, and finished whole or says why not."""
    entries = json.JSONDecoder().raw_decode(text.lstrip())[0]["requests"]
    ends = [_is_told(one) for one in entries]
    names = {one["request"] for one in entries}
    return len(names) == len(entries) and None not in ends and any(ends)


def _is_told(entry: dict[str, Any]) -> bool | None:
    """Return whether a request finished, or None where its end is not explained."""
    reason, end = str(entry.get("reason") or "").strip(), entry.get("ended")
    if end != "finished":
        return False if end and reason else None
    asked, got = entry.get("asked_tokens"), entry.get("output_tokens")
    return True if reason or asked is None or got is None or got >= asked else None


def _import_dump(folder: Path, file: Path, _rng: random.Random) -> int:
    """Read a dump whose metadata are the file, beside right tensors."""
    dump = folder / "dumps" / "20261129_1_pid1_x_call0001"
    dump.mkdir(parents=True, exist_ok=True)
    (dump / "metadata.jsonl").write_bytes(file.read_bytes())
    torch.save(_TENSORS, dump / "inputs.pt")
    out = folder / "imported"
    shutil.rmtree(out, ignore_errors=True)
    return main(["import-dump", str(folder / "dumps"), "--out", str(out)])


_TENSORS = {
    "arg_0": torch.zeros(1, 2, 16, dtype=torch.float16),
    "arg_1": torch.zeros(4, 2, 1, 8, 16, dtype=torch.float16),
    "arg_2": torch.zeros(8, dtype=torch.uint8),
    "arg_3": torch.tensor([[1, 2]], dtype=torch.int32),
    "arg_4": torch.tensor([9], dtype=torch.int32),
}


def _dumped() -> str:
    details = {
        name: {"shape": list(one.shape), "dtype": str(one.dtype), "stride": list(one.stride())}
        for name, one in _TENSORS.items()
    }
    return json.dumps(
        {
            "function_name": "trtllm_batch_decode_with_kv_cache",
            "input_metadata": {"arg_5": 64, "kwarg_bmm1_scale": 0.25, "kwarg_sinks": None},
            "tensor_details": details,
            "function_signature": str(inspect.signature(decode)),
            "process_id": 1,
            "call_sequence": 1,
            "timestamp": "1",
        }
    )


def _case_files() -> tuple[str, ...]:
    vectors = (ROOT / "vectors").glob("*.json")
    first = min(vectors, key=lambda path: path.stat().st_size)
    data = json.loads(first.read_text())
    return (
        json.dumps(SMALL.to_data()),
        SMALL.model_dump_json(by_alias=True),
        json.dumps({**data, "vectors": [{"name": "one", "note": "n", "case": SMALL.to_data()}]}),
    )


_SERVING = (
    json.dumps({"backend": "sglang", "completed": 2, "errors": ["", "", "gone"], "output_lens": [3, 3, 0]}),
    json.dumps({"backend": "vllm", "num_prompts": 3, "completed": 2, "failed": 1, "errors": ["", None, "x\ny"]}) * 2,
    json.dumps({"backend": "vllm", "num_prompts": 3, "completed": 2, "aborted": "1"}),
    json.dumps({"request_count": {"avg": 3}, "input_config": {"loadgen": {"request_count": 3}}}),
)
_LEDGER = json.dumps(
    {
        "schema": "attnconf.ledger/1",
        "requests": [
            {"request": "0.0", "ended": "finished", "output_tokens": 3, "asked_tokens": 3},
            {"request": "0.1", "ended": "aborted", "reason": "by the client", "output_tokens": 1},
        ],
    }
)
_METRICS = (
    'vllm:num_requests_running{engine="0"} 0.0\nvllm:request_success_total{finished_reason="stop"} 3.0\n',
    "sglang:num_requests_total 3\nsglang:num_running_reqs 0\n",
)
_STORY = json.dumps(
    {
        "schema": "attnconf.story/1",
        "setting": {"sizes": {"full": 9, "swa": 9}},
        "events": [
            {"event": "submit", "request": 0, "prompt": [0, 1, 2, 1, 0], "answer": 3},
            {"event": "step", "chunk": 2},
            {"event": "step", "chunk": 64, "drafts": 2, "accepted": 1},
            {"event": "preempt", "request": 0},
            {"event": "evict"},
        ],
    }
)
_RECEIPT = json.dumps(receipt_of(PLAN, "b200").to_data())
_EVERYTHING = json.dumps({**everything().to_data(), "digest": None})
_SPEED = json.dumps(speed_receipt(speed_cell(processes=3, warm=(), control=()), left_out=("x",)).to_data())
_COUNTS = {"num_prompts": 3, "completed": 3, "total_input_tokens": 9}
_SERVED = json.dumps({"backend": "vllm", "date": "1", "output_throughput": 12.5, **_COUNTS})
_PLAN = json.dumps(PLAN.to_data())
_MERGED = json.dumps(evidence_of([Receipt.from_data(json.loads(_RECEIPT), "b200")]).to_data())
_SHIPPED = (ROOT / "policies" / "sglang-gemma4.toml").read_text()
_MODELS = (
    *(path.read_text() for path in sorted((ROOT / "models").glob("*.json"))),
    json.dumps(load_model("gemma4-e2b").shard(4).to_data()),
)

TARGETS = (
    Target("verify", ".json", (_RECEIPT,), _verify, (0, 10), _proves, sealed=True, weight=5),
    Target("verify merged", ".json", (_MERGED,), _verify, (0, 10), _proves_merged, sealed=True),
    Target("verify --plan", ".json", (_PLAN,), _verify_plan, (0, 10, *NO_GREEN), _same_plan, sealed=True, weight=2),
    Target("verify --policy", ".toml", (AFTER,), _verify_policy, (0, 10, *NO_GREEN), _same_policy),
    Target("report", ".json", (_EVERYTHING,), _report, weight=2),
    Target("report --speed", ".json", (_SPEED,), _report_speed, sealed=True),
    Target(
        "paired",
        ".json",
        (_SERVED,),
        _command("paired", "{file}", "{file}", "--candidate", "a", "--over", "b", "-o", "{folder}/paired.json"),
        (0, EXIT_BAD_INPUT, 10),
        lambda _text: False,
    ),
    Target("matrix", ".json", (_EVERYTHING,), _command("matrix", "{file}")),
    Target("merge", ".json", (_RECEIPT, _MERGED), _command("merge", "{file}", "-o", "{folder}/merged.json")),
    Target("policy check", ".toml", (AFTER, _SHIPPED), _command("policy", "check", "{file}"), weight=2),
    Target("plan", ".toml", (AFTER, _SHIPPED), _command("plan", "--policy", "{file}", "--sm", "10.0")),
    Target(
        "plan --fleet",
        ".toml",
        (FLEET,),
        _command("plan", "--policy", "{folder}/policy.toml", "--fleet", "{file}"),
        (0, 10, *NO_GREEN),
    ),
    Target("verify-requests", ".json", _SERVING, _command("verify-requests", "{file}"), (0, 2, 10), _accounts),
    Target("ledger", ".json", (_LEDGER,), _command("verify-requests", "{file}"), (0, 2, 10), _keeps_books),
    Target(
        "metrics",
        ".txt",
        _METRICS,
        _command("verify-requests", "{folder}/served.json", "--metrics", "{file}"),
        (0, 2, 10),
    ),
    Target(
        "machine --story", ".json", (_STORY,), _command("machine", "--story", "{file}", "--judge-every", "0"), (0, 2)
    ),
    Target("import-dump", ".jsonl", (_dumped(),), _import_dump, (0, 2)),
    Target("model", ".json", _MODELS, _model, (0,)),
    Target(
        "replay",
        ".json",
        _case_files(),
        _command("replay", "{file}", "--backend", "reference"),
        (0, EXIT_BAD_INPUT, EXIT_NOTHING_EXECUTED),
        weight=2,
    ),
    Target("power", ".json", _case_files(), _command("power", "{file}"), (0, EXIT_BAD_INPUT)),
)
