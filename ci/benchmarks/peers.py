"""Race peers' ways of testing against attnconf's: ``python -m ci.benchmarks.peers --json FILE``.

The result is JSON; ``--page`` and ``--picture`` write it as Markdown and PNG, from the race or from ``--of FILE``, and
``--check PAGE`` says by its status whether a page is that of a result.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from ci.benchmarks.peerstyles.page import page


def main() -> int:
    """Run the command line; return 1 if a right backend was found wrong, or the page is out of date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--of", type=Path, metavar="FILE", help="show this result instead of racing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the picture (needs matplotlib)")
    parser.add_argument(
        "--check", type=Path, metavar="PAGE", help="compare this page with the one that would be written"
    )
    parser.add_argument("--cases", type=int, default=20, help="cases a side and mutant (20)")
    parser.add_argument("--seconds", type=float, default=1.0, help="CPU seconds a side and mutant, if that is more (1)")
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="this mutant only (repeatable)")
    parser.add_argument("--seed", type=int, default=0, help="draw other cases (0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (1)")
    given = parser.parse_args()
    if given.of is not None:
        result = json.loads(given.of.read_text(encoding="utf-8"))
    else:
        from ci.benchmarks.peerstyles.race import Share, race

        share = Share(cases=given.cases, seconds=given.seconds, seed=given.seed)
        result = race(share, given.only, given.jobs, lambda line: print(line, flush=True))
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if given.page is not None:
        given.page.write_text(page(result), encoding="utf-8")
    if given.picture is not None:
        from ci.benchmarks.peerstyles.picture import draw

        draw(result, given.picture)
    if given.check is not None and given.check.read_text(encoding="utf-8") != page(result):
        print(f"{given.check} is not the page of this result", file=sys.stderr)
        return 1
    wrong = [f"{side} finds {name} wrong" for side, names in result["false_alarms"].items() for name in names]
    for line in wrong:
        print(line, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
