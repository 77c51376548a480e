"""One side of an entry, in a process of its own: ``python -m ci.backtest.side JOB RESULT``, both JSON files.

On a CPU, Triton interprets every kernel in it; with a GPU, the release is first on its path. It is given cases that the
other side failed, and a time for which it asks the suite's own.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main(job: Path, result: Path) -> int:
    """Run the job, and write what came of it."""
    from ci.backtest.releases import place, wheel_digest
    from ci.backtest.table import Entry

    order = json.loads(job.read_text(encoding="utf-8"))
    entry = Entry.from_data(order["entry"], str(job))
    folder = place(entry.package, order["release"], Path(order["store"])).resolve()
    if entry.machine == "cpu":
        os.environ["TRITON_INTERPRET"] = "1"  # before anything imports Triton
    else:
        sys.path.insert(0, str(folder))  # before anything imports the library
    from ci.backtest.hunting import Hunter
    from ci.backtest.outcome import Side

    side = Side(release=order["release"], wheel=wheel_digest(folder))
    hunter = Hunter(entry, folder, order["profile"], order["seed"])
    passes = [hunter.passes(case) for case in order["cases"]]
    side, find = hunter.hunt(side, order["seconds"], until_found=order["until_found"])
    answer = {"side": side.to_data(), "find": find and find.to_data(), "passes": passes}
    result.write_text(json.dumps(answer), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
