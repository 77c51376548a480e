"""What the plugin knows during one run: options, the session, and the evidence collected so far."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

if TYPE_CHECKING:
    from attnconf.case import Case
    from attnconf.cells import Cell
    from attnconf.platforms import Platform
    from attnconf.policy import Policy
    from attnconf.profiles import Profile
    from attnconf.session import Session

KEY: pytest.StashKey[State] = pytest.StashKey()

EXIT_POLICY_NOT_MET = 10
EXIT_POLICY_INVALID = 11
EXIT_NOT_AS_CLAIMED = 12

_OURS = ("profile", "backend", "model", "seed", "receipt", "policy", "sm", "require_sm", "replay")


class State:
    """One run's state; it imports torch and attnconf only once it is used."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.cells: list[Cell] = []
        self.started = datetime.now(UTC)
        self.clock = time.perf_counter()
        self.judged_nodes = 0

    def option(self, name: str) -> Any:  # noqa: ANN401 - pytest's options are untyped
        """Return the value of ``--attnconf-NAME``."""
        return self.config.getoption(f"attnconf_{name}")

    @property
    def is_asked_for(self) -> bool:
        """Whether an option of ours is given, or the suite is on the command line."""
        return any(self.option(name) for name in _OURS) or any("attnconf.suite" in arg for arg in self.config.args)

    @property
    def is_worker(self) -> bool:
        """Whether this is a worker of pytest-xdist: it reports, the controller judges."""
        return hasattr(self.config, "workerinput")

    @cached_property
    def profile(self) -> Profile:
        """The profile, cut down to the models asked for."""
        from dataclasses import replace

        from attnconf.profiles import profile_named

        profile = profile_named(self.option("profile") or "gate")
        models = tuple(self.option("model"))
        return replace(profile, models=models) if models else profile

    @cached_property
    def seed(self) -> int:
        """The seed: given, or 0, or of the clock for a profile that explores."""
        from attnconf.errors import InvalidInputError

        text = self.option("seed")
        if text is None:
            return 0 if self.profile.derandomised else int(self.started.timestamp())
        if not (text.isascii() and text.isdecimal() and len(text) < len(str(2**63))):
            raise InvalidInputError("--attnconf-seed", given=repr(text), allowed="a whole number of up to 18 digits")
        return int(text)

    @cached_property
    def platform(self) -> Platform:
        """This machine."""
        from attnconf.platforms import detect

        return detect()

    @cached_property
    def session(self) -> Session:
        """The session, with the backends that conftest files register."""
        from attnconf.session import Session

        session = Session(platform=self.platform, profile=self.profile, seed=self.seed)
        self.config.hook.pytest_attnconf_register_backends(registry=session.registry)
        return session

    @cached_property
    def backends(self) -> tuple[str, ...]:
        """The backends to judge: those asked for, else every registered one."""
        from attnconf.errors import UnknownBackendError

        known = self.session.registry.names
        for name in self.option("backend"):
            if name not in known:
                raise UnknownBackendError("--attnconf-backend", given=repr(name), allowed=", ".join(known))
        return tuple(self.option("backend")) or known

    @cached_property
    def replayed(self) -> dict[str, Case]:
        """The recorded cases: those of ``--attnconf-replay``, else the shipped vectors."""
        from attnconf.judge import cases_to_replay
        from attnconf.vectors import shipped_vectors

        paths = [Path(path) for path in self.option("replay")]
        return cases_to_replay(paths, {name: vector.case for name, vector in shipped_vectors().items()})

    @cached_property
    def policy(self) -> Policy | None:
        """The policy asked for, if any."""
        from attnconf.policy import load_policy

        name = self.option("policy")
        return load_policy(name) if name else None

    def check_options(self) -> None:
        """Stop the run, with one sentence, for an option that cannot be used."""
        from attnconf.errors import AttnconfError

        try:
            _ = self.profile, self.seed, self.replayed
            _ = [self.profile.targets("decode")]
        except AttnconfError as error:
            raise pytest.UsageError(str(error)) from None
        try:
            _ = self.policy
        except AttnconfError as error:
            stop(f"attnconf: policy invalid: {error}", EXIT_POLICY_INVALID)
        try:
            self._check_platform()
        except AttnconfError as error:
            raise pytest.UsageError(str(error)) from None

    def _check_platform(self) -> None:
        from attnconf.platforms import parse_sm

        if self.option("sm"):
            parse_sm(self.option("sm"))
        claimed = self.option("require_sm")
        if claimed and parse_sm(claimed) != self.platform.sm:
            found = f"is {self.platform.device}, SM {self.platform.sm_text}" if self.platform.sm else "has no GPU"
            stop(f"attnconf: this runner claims SM {claimed}, but the machine {found}", EXIT_NOT_AS_CLAIMED)


def stop(message: str, status: int) -> NoReturn:
    """End the run at once with ``message`` and ``status``."""
    pytest.exit(message, returncode=status)
