"""Reasons: what kept tests from running, each said once, with how many tests it kept."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class Reasons:
    """The reasons of the tests that did not run. Kernel modules that are not built are one reason, however many."""

    def __init__(self) -> None:
        self._tests: Counter[str] = Counter()
        self._modules: dict[str, str] = {}
        self._unbuilt = 0

    def __bool__(self) -> bool:
        """Whether any test did not run."""
        return bool(self._tests or self._unbuilt)

    def add(self, reasons: Iterable[tuple[str, str]]) -> None:
        """Count one more test, with its reasons: each a text, and the kernel module that is not built, or nothing."""
        given = dict(reasons)
        unbuilt = {module: text for text, module in given.items() if module}
        self._modules |= unbuilt
        self._unbuilt += bool(unbuilt)
        self._tests.update({text for text, module in given.items() if not module})

    @property
    def lines(self) -> list[str]:
        """One line a reason, the most frequent ones first; a test with several counts in each."""
        from attnconf.wording import plural

        counted = Counter(self._tests)
        if self._modules:
            counted[self._missing] = self._unbuilt
        return [f"not_run: {count} {plural('test', count)}: {why}" for why, count in counted.most_common()]

    @property
    def _missing(self) -> str:
        if len(self._modules) == 1:
            return next(iter(self._modules.values()))
        return (
            f"{len(self._modules)} kernel modules are not built and cost more than --attnconf-build-budget"
            " (attnconf build --dry-run names them, and builds them with --budget inf)"
        )
