"""JUnit: what pytest's own XML would not say, so that it agrees with the receipt and the exit status.

Tests bring their outcome and their cells as properties by themselves. Here are added the cells of a test that died with
its process, and a failed test case for each requirement that is not met: a reader of the XML alone sees red as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from _pytest.junitxml import xml_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GATE = "attnconf.gate"


def add_properties(config: pytest.Config, report: pytest.TestReport, properties: Mapping[str, str]) -> None:
    """Add properties to the test case of ``report``, if JUnit XML is written."""
    xml = config.stash.get(xml_key, None)
    if xml is not None:
        reporter = xml.node_reporter(report)
        for name, value in properties.items():
            reporter.add_property(name, value)


def add_failures(config: pytest.Config, sentences: Iterable[str]) -> None:
    """Add a failed test case for each sentence, if JUnit XML is written; call it before the session finishes."""
    xml = config.stash.get(xml_key, None)
    if xml is None:
        return
    for number, sentence in enumerate(dict.fromkeys(sentences), start=1):
        where = (GATE, None, f"requirement {number}")
        nodeid = f"{GATE}::{where[2]}"
        failed = pytest.TestReport(nodeid, where, {}, "failed", f"NOT MET: {sentence}", "call")
        xml.pytest_runtest_logreport(failed)
        xml.pytest_runtest_logreport(pytest.TestReport(nodeid, where, {}, "passed", None, "teardown"))
