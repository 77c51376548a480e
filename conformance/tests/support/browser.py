"""A headless Chromium for tests, spoken to over its debugging pipe: no driver and no network are needed."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from attnconf.judging.result import Outcome
from attnconf.running.judge import NotJudged

if TYPE_CHECKING:
    from types import TracebackType

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
SECONDS = 60.0


def find_chromium() -> str:
    """Return the path of a Chromium: ``ATTNCONF_CHROMIUM``, or one on the PATH.

    One that is named and is not there fails the test, so a CI that brings a Chromium names it; without any, the test is
    not_run, and says so.
    """
    told = os.environ.get("ATTNCONF_CHROMIUM")
    found = told or next(filter(None, map(shutil.which, NAMES)), None)
    if found is not None and shutil.which(found) is not None:
        return found
    wanted = f"ATTNCONF_CHROMIUM is {told!r}" if told else f"none of {', '.join(NAMES)} is on the PATH"
    sentence = f"the page cannot be looked at: it needs a Chromium, and {wanted}"
    if told:
        pytest.fail(sentence, pytrace=False)
    raise NotJudged(Outcome.NOT_RUN, sentence)


class Browser:
    """One page of a headless Chromium. ``requests`` are the addresses that it asked for, ``complaints`` its errors."""

    def __init__(self, folder: Path) -> None:
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._count = 0
        self._answers: dict[int, dict[str, Any]] = {}
        self._loaded = False
        self._buffer = b""
        # far from 3 and 4, under which the browser wants them
        ours, theirs = [[fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 20) for end in os.pipe()] for _ in range(2)]
        program = find_chromium()
        arguments = [
            program,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--disable-background-networking",
            "--no-first-run",
            "--hide-scrollbars",
            "--remote-debugging-pipe",
            f"--user-data-dir={folder / 'profile'}",
            "about:blank",
        ]
        actions = [
            (os.POSIX_SPAWN_DUP2, ours[0], 3),
            (os.POSIX_SPAWN_DUP2, theirs[1], 4),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, str(folder / "chromium.log"), os.O_WRONLY | os.O_CREAT, 0o600),
        ]
        self._pid = os.posix_spawnp(program, arguments, os.environ, file_actions=actions, setpgroup=0)
        os.close(ours[0])
        os.close(theirs[1])
        self._write, self._read = ours[1], theirs[0]
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
        os.close(self._write)
        os.close(self._read)

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        """Call one method of the protocol and return its result."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + SECONDS
        while self._count not in self._answers:
            self._listen(deadline)
        answer = self._answers.pop(self._count)
        assert "error" not in answer, (method, answer)
        result: dict[str, Any] = answer["result"]
        return result

    def open(self, path: Path, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a file in a window of that size; a narrow one is a phone's."""
        phone = width < 600
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", media="screen", features=[scheme])
        self._loaded = False
        self.call("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + SECONDS
        while not self._loaded:
            self._listen(deadline)

    def evaluate(self, expression: str) -> Any:  # noqa: ANN401 - any JSON
        """Return the value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """Save the whole page as a PNG."""
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        path.write_bytes(base64.b64decode(data))

    def _listen(self, deadline: float) -> None:
        ready, _, _ = select.select([self._read], [], [], max(0.0, deadline - time.monotonic()))
        data = os.read(self._read, 1 << 20) if ready else b""
        assert data, "Chromium ended" if ready else f"Chromium did not answer for {SECONDS:.0f} s"
        *messages, self._buffer = (self._buffer + data).split(b"\0")
        for text in messages:
            self._take(json.loads(text))

    def _take(self, message: dict[str, Any]) -> None:
        if "id" in message:
            self._answers[message["id"]] = message
        elif message["method"] == "Page.loadEventFired":
            self._loaded = True
        elif message["method"] == "Network.requestWillBeSent":
            self.requests.append(message["params"]["request"]["url"])
        elif message["method"] in {"Log.entryAdded", "Runtime.exceptionThrown"}:
            self.complaints.append(json.dumps(message["params"]))
