"""Exit statuses of attnconf, beside pytest's own 0 to 5."""

from __future__ import annotations

EXIT_POLICY_NOT_MET = 10
"""The policy's defaults are not proven here, what a family is about never mattered, or nothing was executed at all."""

EXIT_POLICY_INVALID = 11
"""The policy cannot be read."""

EXIT_NOT_AS_CLAIMED = 12
"""The environment is not what was claimed: another GPU than that of the claim or of the plan's job, a backend that does
not run on it, or hidden retries."""
