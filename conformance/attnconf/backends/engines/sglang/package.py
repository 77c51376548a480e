"""The distribution sglang: the releases whose classes the adapters construct."""

from __future__ import annotations

from attnconf.backends.engines.release import Releases

RELEASES = Releases("sglang", ("0.5.23",))
