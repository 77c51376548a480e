"""Recorder: batches of the machine as case files, which ``attnconf replay`` judges on any backend."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from attnconf.errors import InvalidInputError
from attnconf.files import write_text

if TYPE_CHECKING:
    from pathlib import Path

    from attnconf.cases.case import Case

MOST_SAVED = 200
"""Cases of one recording: a replay with every check takes about a second for each."""


class Recorder:
    """Saves one case of each shape into ``folder``: its model, mode, and the lengths of its requests in whole pages.

    Raises ``InvalidInputError`` for a folder that cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInputError(
                "--record", given=str(error.strerror), allowed="a folder that can be made"
            ) from None
        self._folder = folder
        self._shapes: set[tuple[object, ...]] = set()

    @property
    def saved(self) -> int:
        """How many cases were saved."""
        return len(self._shapes)

    def __call__(self, case: Case) -> None:
        """Save ``case`` unless one of its shape is there, or enough are."""
        size = case.paging.page_size
        lengths = tuple(sorted((one.prefix_len // size, one.new_tokens, one.shared_pages) for one in case.requests))
        shape = (case.model, case.mode, len(case.layers), case.padding_rows, case.paging.reclaimed, lengths)
        if shape in self._shapes or len(self._shapes) >= MOST_SAVED:
            return
        self._shapes.add(shape)
        write_text(self._folder / f"{case.id}.json", json.dumps(case.to_data(), indent=1) + "\n")
