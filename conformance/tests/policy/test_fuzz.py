"""1,000 mutated policies: one sentence or a policy that works, no traceback, and no green without proof."""

from __future__ import annotations

import datetime as dt
import random
from typing import TYPE_CHECKING

from attnconf.errors import AttnconfError
from attnconf.gate.cells import Cell
from attnconf.gate.verdict import reach_verdict
from attnconf.platforms import Platform
from attnconf.policy.check import check_policy
from attnconf.policy.policy import load_policy
from attnconf.policy.resolution import resolve_all
from attnconf_fixtures import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from attnconf.gate.verdict import Verdict
    from attnconf.policy.policy import Policy
    from attnconf.policy.requirements import RequiredCell
    from attnconf.policy.resolution import Resolution

TODAY = dt.date(2026, 11, 22)
CPU = Platform()
B200 = Platform(device="B200", sm=(10, 0), cuda="13.0", packages={"flashinfer-python": "0.6.13"})
WORKING = {"triton": None, "trtllm_mha": None}
EXTRA = """
[[waivers]]
backends = ["trtllm_mha"]
models = ["gemma4-31b"]
modes = ["extend"]
dtypes = ["any"]
issue = "owner/repository#12"
owner = "kernels"
expires = 2027-03-01

[[required]]
architectures = ["Gemma4ForCausalLM"]
rules = ["sm100"]
models = ["gemma4-12b"]
layer_kinds = ["full"]
modes = ["verify"]
dtypes = ["bfloat16+float8_e4m3fn"]
executed = 3
effective_cases = 2
effective = { full = ["paging"] }

[[required.allow_unsupported]]
backends = ["trtllm_mha"]
modes = ["verify"]
reason = "the engine verifies with triton"
"""
TEXT = (ROOT / "policies" / "sglang-gemma4.toml").read_text(encoding="utf-8") + EXTRA
JUNK = [
    "3", "-1", "true", "nan", "1e400", '""', '"x"', "[]", "{}", "[[1]]", "1979-05-27", '">=1"', '["10.x"]', "9" * 5000,
    '["none"]', '[">=2"]', '["any"]', '"triton"', '["full"]', '["decode"]', "2020-01-01", "[4, 4]",
]  # fmt: skip


def mutate(text: str, rng: random.Random) -> str:
    """Change one random line of a TOML file: drop, repeat, move, rename, replace its value by junk, or cut the text."""
    lines = text.splitlines()
    at = rng.randrange(len(lines))
    line = lines[at]
    match rng.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(rng.randrange(len(lines)), line)
        case 2:
            lines.insert(rng.randrange(len(lines) - 1), lines.pop(at))
        case 3 if "=" in line:
            lines[at] = f"{line.split('=')[0]}= {rng.choice(JUNK)}"
        case 4:
            lines[at] = line.replace("e", rng.choice(["", "a", '"', "[", "\\u00e9"]), 1)
        case _:
            text = "\n".join(lines)
            return text[: rng.randrange(1, len(text))] if rng.random() < 0.2 else text
    return "\n".join(lines) or "x"


def passed(wanted: RequiredCell) -> Cell:
    q_dtype, _, kv_dtype = wanted.dtypes.replace("any", "bfloat16").partition("+")
    counts = ["failed", "unsupported", "refused", "crashed", "oom", "not_run", "contract_only"]
    executed = max(wanted.executed, wanted.effective_cases)
    return Cell.from_data(
        {
            **dict.fromkeys(counts, 0),
            "backend": wanted.backend,
            "model": wanted.model,
            "layer_kind": wanted.layer_kind,
            "mode": wanted.mode,
            "q_dtype": q_dtype,
            "kv_dtype": kv_dtype or q_dtype,
            "features": sorted({"paging", *wanted.effective}),
            "effective": dict.fromkeys(("paging", *wanted.effective), executed),
            "executed": executed,
            "passed": executed,
            "worst_units": 0.5,
            "reasons": {},
        },
        "test",
    )


def check_verdict(
    policy: Policy, resolutions: Sequence[Resolution], platform: Platform, drawn: Sequence[int]
) -> Verdict:
    """Judge partial evidence, and hold the verdict against the rule: green means that all is proven or excused."""
    wanted = {cell.id: cell for resolution in resolutions for cell in resolution.required}
    kept = [cell for index, cell in enumerate(wanted.values()) if drawn[index % len(drawn)]]
    cells = [passed(cell) for cell in kept if cell.executed < 10**6]
    judged = reach_verdict(policy, resolutions, cells, platform, WORKING, today=TODAY)
    if judged.is_met:
        shown = {(cell.backend, cell.model, cell.layer_kind, cell.mode) for cell in cells}
        missing = [
            one
            for one in wanted.values()
            if (one.backend, one.model, one.layer_kind, one.mode) not in shown
            and not any(waiver.has(one) and waiver.expires >= TODAY for waiver in policy.waivers)
        ]
        assert not missing
        assert cells
        for resolution in resolutions:
            assert resolution.by != "refused" or resolution.stated
            assert not resolution.unmet_floors
            for backend in resolution.backends:
                assert any(cell.backend == backend for cell in cells)
    return judged


def test_1000_mutated_policies_give_no_traceback_and_no_wrong_green(tmp_path: Path) -> None:
    rng = random.Random(20261101)  # noqa: S311 - the same files in every run
    path = tmp_path / "fuzzed.toml"
    good = sound = green = 0
    for _ in range(1000):
        text = TEXT
        for _ in range(rng.randint(1, 4)):
            text = mutate(text, rng)
        path.write_text(text, encoding="utf-8")
        sentence = ""
        try:
            policy = load_policy(str(path))
            faults = check_policy(policy, TODAY)
        except AttnconfError as error:
            sentence = str(error)
        else:
            good += 1
            sound += not faults
            assert all("\n" not in fault.sentence for fault in faults)
            for platform in (CPU, B200):
                resolutions = resolve_all(policy, platform)
                assert not check_verdict(policy, resolutions, platform, [0]).is_met
                check_verdict(policy, resolutions, platform, [rng.randint(0, 9) for _ in range(7)])
                green += check_verdict(policy, resolutions, platform, [1]).is_met
        assert "\n" not in sentence
        sentence.encode()
    assert 150 < sound <= good < 850
    assert green > 50
