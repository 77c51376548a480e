"""One GPU a worker: pytest-xdist's workers share the GPUs that the caller sees, before torch looks for them.

Worker N gets the Nth GPU; further workers start over at the first. ``-n auto`` means one worker a GPU. A run that does
not ask for attnconf, and a machine without a GPU, are left alone.
"""

from __future__ import annotations

import os
import re

import pytest

from pytest_attnconf.options import is_asked_for

WORKER = "PYTEST_XDIST_WORKER"


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Pin a worker to its GPU: the environment is settled before a conftest file can import torch."""
    worker = re.fullmatch(r"gw(\d+)", os.environ.get(WORKER, ""))
    options = early_config.known_args_namespace
    if worker is None or not is_asked_for(options, getattr(options, "file_or_dir", None) or ()):
        return
    from attnconf.running.processes.gpus import use_only, visible_gpus

    use_only(int(worker[1]), visible_gpus())


@pytest.hookimpl(optionalhook=True, tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Answer ``-n auto`` with the number of GPUs, where there are any and nobody said otherwise."""
    if os.environ.get("PYTEST_XDIST_AUTO_NUM_WORKERS") or not is_asked_for(config.option, config.args):
        return None
    from attnconf.running.processes.gpus import visible_gpus

    return len(visible_gpus()) or None


def pinning_line(workers: int) -> str | None:
    """Say how ``workers`` share the GPUs, or None without workers or GPUs."""
    from attnconf.running.processes.gpus import visible_gpus
    from attnconf.wording import plural

    gpus = visible_gpus() if workers else ()
    if not gpus:
        return None
    if workers > len(gpus):
        return f"{workers} workers share {len(gpus)} {plural('GPU', len(gpus))}, in turn: {', '.join(gpus)}"
    return f"one GPU a worker: {', '.join(gpus[:workers])}"
