"""Exit statuses of ``attnconf``; 0 is done. The table in pytest_plugin/README.md says the same."""

from __future__ import annotations

EXIT_FAILED = 1
"""A backend is wrong or does not build, a mutant escapes, or a checked page is out of date."""

EXIT_BAD_INPUT = 2
"""What was given cannot be used: one sentence says why."""

EXIT_NOTHING_EXECUTED = 3
"""Nothing was executed, so nothing is proven."""

EXIT_NOT_MET = 10
"""A requirement is not met, no runner can execute it, or an engine does not do what the policy says."""

EXIT_POLICY_INVALID = 11
"""The policy is invalid, or ``policy check`` faults it."""

EXIT_REHEARSED = 13
"""A rehearsal ends so at best: never with 0, so that no gate can be opened by one."""

EXIT_INTERRUPTED = 130
"""A Ctrl-C, as shells report it, or SIGTERM; what the command started has ended, too."""
