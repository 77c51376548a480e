"""Finds: failing cases that explorations share in a redis database, through Hypothesis' example database.

A find belongs to a backend, a kind of device, a model and a mode. It is asked before any case is drawn, and forgotten
eight days after it failed last.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from attnconf.cases.case import Case
from attnconf.cases.models import FREE_MODEL
from attnconf.errors import AttnconfError, InvalidInputError, one_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hypothesis.database import ExampleDatabase

    from attnconf.judging.result import CaseResult
    from attnconf.platforms import Platform

_MOST = 50
"""The most finds of one kind that are asked: those with the shortest text."""

_LONGEST = 1 << 20
"""Bytes of the longest case that is read: what stands there is others'."""

_SECONDS = 5.0


class FindsError(AttnconfError):
    """The database of finds cannot be used."""


@dataclass(frozen=True)
class Finds:
    """The finds in ``database``; ``place`` names it in sentences."""

    database: ExampleDatabase
    place: str

    def of(self, backend: str, platform: Platform, family: str, model: str) -> list[Case]:
        """Return what failed before of ``family`` and ``model``: the families of the modes and ``free`` have some.

        What is no case of this version is passed over. Raises ``FindsError``.
        """
        try:
            kept = sorted(self.database.fetch(_key(backend, platform, family, model)), key=lambda one: (len(one), one))
        except Exception as error:  # the client's own kinds: whichever, the database does not answer
            raise FindsError(f"the finds in {self.place} cannot be read: {one_line(error)}") from error
        cases = [case for one in kept if (case := _read(one)) is not None]
        return cases[:_MOST]

    def of_targets(self, backend: str, platform: Platform, targets: Iterable[tuple[str, str]]) -> list[Case]:
        """Return what failed before of pairs of a family and a model. Raises ``FindsError``."""
        return [case for family, model in targets for case in self.of(backend, platform, family, model)]

    def add(self, failure: CaseResult, platform: Platform) -> str:
        """Save a failing case, and return why it could not be saved, or an empty text."""
        case = failure.case
        model = case.model.partition("@")[0]  # without its shard
        family = FREE_MODEL if model == FREE_MODEL else case.mode
        value = json.dumps(case.to_data(), sort_keys=True).encode()
        try:
            self.database.save(_key(failure.backend, platform, family, model), value)
        except Exception as error:  # noqa: BLE001 - the client's own kinds: the failure itself is told anyway
            return f"the case could not be saved in {self.place}: {one_line(error)}"
        return ""


def open_finds(url: str, source: str) -> Finds:
    """Return the finds in the redis database at ``url``, which ``source`` (an option) gave.

    Raises ``FindsError`` where redis is not installed, or nothing answers; its text has no password.
    """
    try:
        from hypothesis.extra.redis import RedisExampleDatabase
        from redis import Redis
    except ImportError:
        raise FindsError(f"{source} needs redis: pip install 'attnconf[finds]'") from None
    try:
        place = _place(url)
        client = Redis.from_url(url, socket_timeout=_SECONDS, socket_connect_timeout=_SECONDS)
    except ValueError:
        allowed = "redis://HOST:PORT/NUMBER, rediss:// or unix://"
        raise InvalidInputError(source, given="no address of a redis database", allowed=allowed) from None
    try:
        client.ping()
    except Exception as error:  # noqa: BLE001 - the client's own kinds, and those of its sockets
        raise FindsError(f"{source}: the redis database at {place} does not answer: {one_line(error)}") from None
    return Finds(RedisExampleDatabase(client, key_prefix=b"attnconf:"), place)


def _place(url: str) -> str:
    """Return ``url`` without its password. Raises ``ValueError``."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _key(backend: str, platform: Platform, family: str, model: str) -> bytes:
    device = "cpu" if platform.sm is None else f"sm{platform.sm_text}"
    return json.dumps([backend, device, family, model]).encode()


def _read(value: bytes) -> Case | None:
    if len(value) > _LONGEST:
        return None
    try:
        return Case.from_data(json.loads(value), "a find")
    except (AttnconfError, RecursionError, ValueError):
        return None
