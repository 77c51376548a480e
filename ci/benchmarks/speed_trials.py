"""Trials of ``attnconf bench`` on a GPU: a kernel against itself, as it is or slowed down on purpose, many times.

``python ci/benchmarks/speed_trials.py --backend triton --trials 20`` says in how many trials the interval holds 1 and
no difference is claimed, ``--plant 5`` in how many the slowdown is found. The case is judged once; each trial has
processes of its own. ``--json`` keeps what every trial found.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from attnconf.cli.arguments import make_session
from attnconf.report.speed_rows import SpeedRow, speed_reports
from attnconf.running.bench.bench import Plan, judge, time_judged
from attnconf.running.bench.questions import Place, Shape, ask


def main() -> int:
    """Run the trials; 0 where at least 19 of 20 say what they must."""
    arguments = _options()
    session = make_session()
    if session.platform.sm is None:
        print("a GPU is needed")
        return 2
    place = Place(arguments.model, arguments.kind, arguments.mode)
    asked = ask([place], arguments.backend, [arguments.backend], Shape(), few=True, seed=0)[:1]
    plan = Plan(processes=arguments.processes, blocks=arguments.blocks, planted=arguments.plant, seconds=120.0)
    judged = judge(session, asked, plan, print)
    wanted = "slower" if arguments.plant else "no difference"
    end, rows = time.monotonic() + arguments.seconds, list[SpeedRow]()
    for number in range(arguments.trials):
        if time.monotonic() >= end:
            break
        receipt = time_judged(judged, session.platform, replace(plan, seed=arguments.seed + number), lambda _: None)
        (report,) = speed_reports({"trial": receipt})
        for reason in (*receipt.left_out, *report.faults):
            print(f"trial {number}: {reason}")
        rows += report.rows
        for row in report.rows:
            control = "" if row.control is None else row.control.text
            print(f"trial {number}: {row.cold.verdict}, {row.cold.text}, control {control}", flush=True)
    claimed = sum(row.cold.verdict in {"slower", "faster"} for row in rows)
    held = sum(row.cold.low <= 1.0 <= row.cold.high for row in rows)
    said = sum(row.cold.verdict == wanted for row in rows)
    print(f"{len(rows)} trials: {said} say {wanted}, {claimed} claim a difference, {held} intervals hold 1")
    if arguments.json:
        data = [{"seed": arguments.seed + number, **vars(row.cold)} for number, row in enumerate(rows)]
        document = {"machine": session.platform.device, "backend": arguments.backend, "planted": arguments.plant}
        Path(arguments.json).write_text(json.dumps({**document, "trials": data}, indent=1) + "\n", encoding="utf-8")
    right = said if arguments.plant else len(rows) - claimed
    return 0 if rows and 20 * right >= 19 * len(rows) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backend", default="triton")
    parser.add_argument("--model", default="gemma4-e2b")
    parser.add_argument("--kind", default="full")
    parser.add_argument("--mode", default="decode")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--plant", type=float, default=0.0, help="percent")
    parser.add_argument("--processes", type=int, default=3)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=540.0, help="begin no more trials after so long")
    parser.add_argument("--json")
    return parser.parse_args()


if __name__ == "__main__":
    raise SystemExit(main())
