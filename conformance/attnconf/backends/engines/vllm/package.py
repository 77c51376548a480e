"""The distribution vllm: the releases whose classes the adapter constructs."""

from __future__ import annotations

from attnconf.backends.engines.release import Releases

RELEASES = Releases("vllm", ("0.33.0",))
