"""Every mutant of the serving room."""

from __future__ import annotations

from attnconf.serving.mutants.managers import MANAGERS
from attnconf.serving.mutants.schedulers import SCHEDULERS

SERVING_MUTANTS = (*MANAGERS, *SCHEDULERS)
