"""Conformance of Gemma 4's default attention backends, as a file of sglang's own tests: copy it to test/registered/.

What sglang's CI asks of such a file (0.5.23, python/sglang/test/ci/ci_register.py and ci_utils.py): a registration at
the top level whose arguments are constants, for it is read and never run; a main block; and an exit status, of which 0
alone is a pass. It runs ``python3 FILE -f``, and with --enable-retry once more if what was printed looks flaky. So a
run has a receipt of its own, and the red one stays beside a later green one.

On a desk: ``python3 FILE``, with more arguments for pytest behind it.
"""

from __future__ import annotations

import os
import sys
import time

import pytest

try:
    from sglang.test.ci.ci_register import register_cuda_ci
except ImportError:  # sglang's own does nothing, either

    def register_cuda_ci(**_registration: object) -> None:
        """Stand in for sglang's marker where sglang is not installed."""


# est_time is in seconds, for sglang's scheduler; each receipt says how many it were.
register_cuda_ci(est_time=300, stage="base-b", runner_config="4-gpu-b200")

CLAIM = "--attnconf-require-sm=10.x"
"""What that runner is: there, another machine ends with 12 instead of proving nothing in silence."""


def main(arguments: list[str]) -> int:
    """Run the suite; return pytest's exit status, or attnconf's 10, 11 and 12."""
    receipt = f"attnconf-out/sglang-{time.strftime('%Y%m%dT%H%M%S')}-{os.getpid()}.json"
    suite = ["-p", "attnconf", "--pyargs", "attnconf.suite"]
    options = ["--attnconf-profile=gate", "--attnconf-policy=sglang-gemma4", f"--attnconf-receipt={receipt}"]
    claims = [CLAIM] if os.environ.get("SGLANG_IS_IN_CI", "").lower() in {"1", "true"} else []
    # unittest's -f ends a run at the first failure; pytest has another -f, and a receipt must hold every cell
    more = [argument for argument in arguments if argument != "-f"]
    return int(pytest.main([*suite, *options, *claims, *more]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
