"""Story: events in their order and the setting they happen in, as a file that ``attnconf machine --story`` tells."""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from attnconf.files import write_text
from attnconf.serving.events import Event
from attnconf.serving.setting import Setting
from attnconf.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

MOST_EVENTS = 10_000


class Story(Value):
    """A story as a file. Events that cannot happen where they stand, as after a shorter beginning, are passed over."""

    schema_id: Literal["attnconf.story/1"] = Field(default="attnconf.story/1", alias="schema")
    setting: Setting = Setting()
    events: Annotated[
        tuple[Annotated[Event, Field(discriminator="event")], ...], Field(min_length=1, max_length=MOST_EVENTS)
    ]

    def to_data(self) -> dict[str, object]:
        """Return plain JSON data, in which every event has its name."""
        setting = self.setting.to_data()
        events = self.model_dump(mode="json", include={"events"})["events"]
        return {"schema": self.schema_id, **({"setting": setting} if setting else {}), "events": events}

    def write(self, path: Path) -> None:
        """Write the story as JSON."""
        write_text(path, json.dumps(self.to_data(), indent=1) + "\n")


def story_seed(events: Sequence[Event]) -> int:
    """Return the seed of the last batch of ``events``: it follows from them, so they alone repeat the batch."""
    return zlib.crc32(repr(events).encode())
