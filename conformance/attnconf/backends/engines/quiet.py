"""Silence an engine's logging and warnings, which would repeat in each of thousands of calls."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def quiet(most: int = logging.CRITICAL) -> Iterator[None]:
    """Silence logging up to the level ``most``, and warnings, inside the block."""
    before = logging.root.manager.disable
    logging.disable(most)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
