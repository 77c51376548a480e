"""Numbers of seconds, as an option of a command line takes them."""

from __future__ import annotations

import argparse
import math


def seconds(text: str) -> float:
    """Read a number of seconds, 0 or more; ``inf`` is one. Raises ``ArgumentTypeError``."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number >= 0:
        message = f"{text!r} is not a number of seconds, 0 or more"
        raise argparse.ArgumentTypeError(message)
    return number
