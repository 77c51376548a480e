"""Exit statuses of attnconf, beside pytest's own 0 to 5; README's table says the same."""

from __future__ import annotations

EXIT_POLICY_NOT_MET = 10
"""The policy is not met, a family of tests ran without what it is about ever mattering, a backend that is named judged
nothing or by contract only, or nothing was executed."""

EXIT_POLICY_INVALID = 11
"""The policy is invalid, or ``policy check`` faults it."""

EXIT_NOT_AS_CLAIMED = 12
"""The machine is not what ``--attnconf-require-sm`` or the plan's job claims, a backend does not run on it, or a plugin
runs failed tests again."""
