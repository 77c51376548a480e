"""Measure which clause is cited first: ``python -m ci.benchmarks.blame``.

Each wrong backend is asked the cases of a profile, as ``attnconf mutants`` does, up to the first one that it fails; the
first clause of that case is held against the one that its fault breaks. Each set of faults was written before any of it
was run, and diagnosis was mended once its share was known; ``shipped`` are the mutants of the suite.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnconf.cases.drawing.profiles import profile_named
from attnconf.mutants.registry import MUTANTS
from attnconf.platforms import detect
from attnconf.running.agenda import agenda
from attnconf.running.campaigns.hunt import first_clause
from attnconf.running.session import Session
from ci.benchmarks.blame.calls import CALLS
from ci.benchmarks.blame.fourth_numbers import FOURTH_NUMBERS
from ci.benchmarks.blame.fourth_sight import FOURTH_SIGHT
from ci.benchmarks.blame.later_numbers import LATER_NUMBERS
from ci.benchmarks.blame.later_sight import LATER_SIGHT
from ci.benchmarks.blame.numbers import NUMBERS
from ci.benchmarks.blame.sight import SIGHT
from ci.benchmarks.blame.third_numbers import THIRD_NUMBERS
from ci.benchmarks.blame.third_sight import THIRD_SIGHT

if TYPE_CHECKING:
    from attnconf.mutants.mutant import Mutant
    from ci.benchmarks.blame.fault import Fault

SETS: dict[str, Sequence[Fault | Mutant]] = {
    "first": (*SIGHT, *NUMBERS, *CALLS),
    "second": (*LATER_SIGHT, *LATER_NUMBERS),
    "third": (*THIRD_SIGHT, *THIRD_NUMBERS),
    "fourth": (*FOURTH_SIGHT, *FOURTH_NUMBERS),
    "shipped": MUTANTS,
}


def first_cited(wrong: Fault | Mutant, session: Session) -> tuple[int | None, str, int]:
    """Return the clause that the first failing case cites first, its suspicion, and the number of cases asked."""
    session.registry.register(wrong.id, wrong.make_named)
    items = agenda(session)
    for asked, item in enumerate(items, start=1):
        if not item.run(session, wrong.id, explain=False).is_failure:
            continue
        result = item.run(session, wrong.id)
        failures = result.failures
        return first_clause(result), failures[0].suspicion if failures else "", asked
    return None, "", len(items)


def main() -> int:
    """Run the command line; return 1 if a backend is not caught at all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", choices=("smoke", "gate"), default="smoke", help="whose cases are drawn (smoke)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="draw other cases (0)")
    parser.add_argument("--set", choices=tuple(SETS), default="second", help="which faults (second)")
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="this one only (repeatable)")
    given = parser.parse_args()
    session = Session(platform=detect(), profile=profile_named(given.profile), seed=given.seed)
    asked = [one for one in SETS[given.set] if not given.only or one.id in given.only]
    cited = right = 0
    for wrong in asked:
        session.registry.register(wrong.id, wrong.make_named)
        if session.why_not(wrong.id) is not None:
            print(f"not run  {wrong.id}")
            continue
        clause, suspicion, cases = first_cited(wrong, session)
        cited += clause is not None
        right += clause == wrong.clause
        said = "never fails" if clause is None else f"cites {clause} after {cases} cases"
        mark = "right  " if clause == wrong.clause else "WRONG  "
        print(f"{mark} {wrong.id:32} breaks {int(wrong.clause)}, {said}  {suspicion}", flush=True)
    print(f"{right} of {cited} that fail are cited by their clause first: {100 * right / max(1, cited):.1f} %")
    return 0 if cited == len(asked) else 1


if __name__ == "__main__":
    sys.exit(main())
