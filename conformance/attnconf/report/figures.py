"""Figures: drawn by matplotlib, which is imported when a picture is asked for, and written whole or not at all."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from attnconf.errors import AttnconfError, InvalidInputError
from attnconf.files import write_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")


def figure_class(path: Path) -> type[Figure]:
    """Return matplotlib's class for a picture in ``path``. Raises ``AttnconfError`` for a wrong name or without it."""
    if path.suffix.lower() not in SUFFIXES:
        raise InvalidInputError(str(path), given="not a picture's name", allowed=f"names in {', '.join(SUFFIXES)}")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise AttnconfError('the picture needs matplotlib; pip install "attnconf[report]"') from None
    return Figure


def save(figure: Figure, path: Path) -> None:
    """Write ``figure`` to ``path``, a PNG, SVG or PDF. Raises ``InvalidInputError`` where that cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        drawn = io.BytesIO()
        figure.savefig(drawn, format=path.suffix.lower().removeprefix("."), facecolor="white")
        write_bytes(path, drawn.getvalue())
    except OSError as error:
        raise InvalidInputError(str(path), given=f"cannot be written ({error.strerror})") from None
