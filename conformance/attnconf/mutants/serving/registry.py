"""Every mutant of the serving room."""

from __future__ import annotations

from attnconf.mutants.serving.managers import MANAGERS
from attnconf.mutants.serving.schedulers import SCHEDULERS

SERVING_MUTANTS = (*MANAGERS, *SCHEDULERS)
