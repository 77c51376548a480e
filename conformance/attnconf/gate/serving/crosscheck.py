"""Crosscheck: the counts of a client, of a ledger and of the server's own metrics, held against each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.wording import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from attnconf.gate.serving.metrics import ServerCounts
    from attnconf.gate.serving.result import ServingResult


def contradictions(
    clients: Sequence[ServingResult],
    ledger: ServingResult | None,
    server: ServerCounts | None,
    extra: int | None,
) -> Iterator[str]:
    """Yield the pairs of counts that cannot both be right, in sentences.

    ``clients`` are results of one load on one server. ``extra`` is how many requests beside theirs the server got, as
    to warm up; None where that is not known, and then it may have finished more than they count.
    """
    completed = sum(one.completed for one in clients)
    others = sum(sum(one.explained.values()) for one in clients)
    names = " and ".join(one.source for one in clients)
    if clients and ledger is not None:
        yield from _client(names, completed, others, ledger.source, (ledger.completed, ledger.completed), extra)
    if server is None:
        return
    for what, count in (("running", server.running), ("waiting", server.waiting)):
        if count:
            is_are = "is" if count == 1 else "are"
            yield f"{server.source}: {_requests(count)} {is_are} still {what}, so not all have ended"
    if clients:
        yield from _client(names, completed, others, server.source, server.finished, extra)
    if ledger is not None:
        yield from _ledger(ledger, server, extra)


def notes(clients: Sequence[ServingResult], server: ServerCounts | None, extra: int | None) -> Iterator[str]:
    """Yield what the counts cannot show, in sentences."""
    completed = sum(one.completed for one in clients)
    if server is not None and clients and extra is None and server.finished[0] > completed:
        more = server.finished[0] - completed
        yield (
            f"{server.source} counts {_requests(more)} more than completed, of a warm-up perhaps:"
            " --extra says how many there were beside"
        )


def _client(  # noqa: PLR0913 - two counts, and who says them
    names: str, completed: int, others: int, source: str, finished: tuple[int, int], extra: int | None
) -> Iterator[str]:
    low, high = finished
    beside = extra or 0
    if completed + beside > high:
        yield f"{names} and {source} contradict each other: {_all(completed, beside)} completed, {high} finished"
    elif extra is not None and low > completed + others + beside:
        accounted = f"{_all(completed + others, beside)} accounted for"
        yield f"{names} and {source} contradict each other: {low} finished, {accounted}"


def _ledger(ledger: ServingResult, server: ServerCounts, extra: int | None) -> Iterator[str]:
    low, high = server.finished
    both = f"{ledger.source} and {server.source} contradict each other"
    beside = extra or 0
    if ledger.completed + beside > high or (extra is not None and ledger.completed + beside < low):
        said = str(high) if low == high else f"{low} to {high}"
        yield f"{both}: {_all(ledger.completed, beside)} finished, and {said} finished"
    if server.aborted is not None and ledger.aborted > server.aborted:
        yield f"{both}: {_requests(ledger.aborted)} aborted, and {server.aborted} aborted"


def _all(count: int, beside: int) -> str:
    return _requests(count) + (f" and {beside} beside" if beside else "")


def _requests(count: int) -> str:
    return f"{count} {plural('request', count)}"
