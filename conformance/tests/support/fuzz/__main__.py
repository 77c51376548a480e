"""``python -m conformance.tests.support.fuzz COUNT [SEED]``: mutated inputs to every reader and command.

No traceback, no wrong green, one sentence for what is refused, none slower than 30 s, none above 1 GiB. What breaks
that is kept in ``build/fuzz``, named in the last lines, and the exit status is 1.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from attnconf.cli.statuses import EXIT_POLICY_INVALID
from attnconf.gate.sealed import seal
from conformance.tests.support.fuzz.mutator import mutate_bytes, mutate_data, mutate_lines
from conformance.tests.support.fuzz.targets import NO_GREEN, TARGETS, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from conformance.tests.support.fuzz.targets import Target

Seen = dict[str, Counter[int]]
MOST_SECONDS = 30.0
MOST_KIB = 2**20
_KEPT = Path("build") / "fuzz"
_BYTES, _RIGHT, _SEALED = 0.15, 0.02, 0.7
"""The shares of inputs that are mutated as bytes, left as they are, and sealed anew."""


def mutated(target: Target, rng: random.Random) -> bytes:
    """Return a file of ``target``, with one to three changes."""
    text = rng.choice(target.rights)
    if rng.random() < _RIGHT:
        return text.encode()
    changes = rng.randint(1, 3)
    if rng.random() < _BYTES or text.count("}{"):
        content = text.encode()
        for _ in range(changes):
            content = mutate_bytes(content, rng)
        return content
    if target.suffix in {".toml", ".txt"}:
        for _ in range(changes):
            text = mutate_lines(text, rng) or "x"
        return text.encode()
    data = json.loads(text)
    for _ in range(changes):
        data = mutate_data(data, rng)
    if target.sealed and isinstance(data, dict) and rng.random() < _SEALED:
        with contextlib.suppress(ValueError):  # NaN has no canonical JSON
            data["digest"] = seal(data)
    return json.dumps(data).encode()


def faults(target: Target, folder: Path, content: bytes, rng: random.Random, seen: Seen) -> Iterator[str]:
    """Run ``target`` on ``content``, count its status in ``seen``, and yield what must not be."""
    file = folder / f"fuzzed{target.suffix}"
    file.write_bytes(content)
    out, err = io.StringIO(), io.StringIO()
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = target.call(folder, file, rng)
    except BaseException:  # noqa: BLE001 - whatever it is, it is the finding
        yield traceback.format_exc()
        return
    seen[target.name][status] += 1
    seconds, said = time.perf_counter() - started, err.getvalue()
    if seconds > MOST_SECONDS:
        yield f"took {seconds:.1f} s"
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > max(before, MOST_KIB):
        yield "took more than 1 GiB"
    if status not in target.statuses:
        yield f"ended with {status}: {out.getvalue()[-1000:]}{said[-1000:]}"
    listed = status == EXIT_POLICY_INVALID and out.getvalue() and not said  # what policy check faults is its result
    if status in NO_GREEN and not listed and (said.count("\n") != 1 or not said.strip().isprintable()):
        yield f"said {said[:1000]!r}"
    if status == 0 and not target.green(content.decode(errors="replace")):
        yield "is a wrong green"


def main(count: int, seed: int) -> int:
    """Run ``count`` inputs, each of a random target by its weight; return 1 if one is at fault."""
    rng = random.Random(seed)  # noqa: S311 - the same inputs in every run
    seen: Seen = {target.name: Counter() for target in TARGETS}
    kinds: dict[str, str] = {}
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for index in range(count):
            (target,) = rng.choices(TARGETS, [one.weight for one in TARGETS])
            content = mutated(target, rng)
            for fault in faults(target, folder, content, rng, seen):
                kind = f"{target.name}: {fault.strip().splitlines()[-1][:200]}"
                if kind not in kinds:
                    _KEPT.mkdir(parents=True, exist_ok=True)
                    kept = _KEPT / f"{seed}-{index}{target.suffix}"
                    kept.write_bytes(content)
                    kinds[kind] = f"{kept} ({target.name}): {fault}"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{count} inputs, {time.perf_counter() - started:.0f} s, {peak:.2f} GiB")  # noqa: T201
    for target in TARGETS:
        print(f"  {target.name}: {dict(sorted(seen[target.name].items()))}")  # noqa: T201
    for fault in kinds.values():
        print(fault)  # noqa: T201
    return bool(kinds)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 1))
