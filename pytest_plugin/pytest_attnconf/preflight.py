"""What must hold before the first test: usable options, a valid policy, the claimed machine, and no hidden retries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_attnconf.exits import EXIT_NOT_AS_CLAIMED, EXIT_POLICY_INVALID
from pytest_attnconf.options import flag
from pytest_attnconf.terminal import stop, usage_error

if TYPE_CHECKING:
    import pytest

    from attnconf.policy.conditions import Condition
    from pytest_attnconf.state import State

RETRIES = {
    "reruns": "--reruns of pytest-rerunfailures",
    "retries": "--retries of pytest-retry",
    "force_flaky": "--force-flaky of flaky",
}
"""Options, and entries of an ini file, of the plugins that run a failed test again."""


def check_claims(state: State) -> None:
    """Stop the run with one sentence for what cannot be used, or is not as claimed."""
    from attnconf.errors import AttnconfError

    try:
        _check_options(state)
    except AttnconfError as error:
        raise usage_error(error) from None
    try:
        _check_policy(state)
    except AttnconfError as error:
        stop(f"attnconf: policy invalid: {error}", EXIT_POLICY_INVALID)
    _check_plan(state)
    _check_retries(state)
    _check_machine(state)


def _check_plan(state: State) -> None:
    """Refuse a plan that this run is no job of, and a machine that is not the job's: its receipt would not count."""
    from attnconf.errors import AttnconfError
    from attnconf.gate.plans.fleet import differences

    try:
        plan = state.plan
    except AttnconfError as error:
        raise usage_error(error) from None
    runner = None if plan is None else plan.runner_of(state.option("job"))
    if plan is None or runner is None:
        return
    wrong = differences(plan.fleet.platform(runner), state.platform)
    if wrong:
        stop(f"attnconf: this is not runner {runner.name} of the plan: {', '.join(wrong)}", EXIT_NOT_AS_CLAIMED)


def _check_policy(state: State) -> None:
    """Read the policy and refuse one with faults. Those of its waivers, which time alone brings, are the verdict's."""
    from attnconf.policy.check import refuse_faulty

    if state.policy is not None:
        refuse_faulty(state.policy, state.option("policy"))


def _check_options(state: State) -> None:
    from attnconf.errors import AttnconfError, InvalidInputError
    from attnconf.platforms import parse_sm

    _ = state.profile, state.seed, state.replayed, state.profile.targets("decode"), claimed_sm(state)
    if state.option("sm"):
        parse_sm(state.option("sm"))
        if not state.option("policy"):
            raise InvalidInputError(flag("sm"), allowed="beside --attnconf-policy, which it is resolved for")
    receipt = state.option("receipt")
    if receipt and state.path(receipt).is_dir():
        raise InvalidInputError(flag("receipt"), given=f"{receipt} is a folder", allowed="a file to write")
    try:
        _ = state.backends
        state.registrar.check()
    except AttnconfError:
        raise
    except Exception as error:  # noqa: BLE001 - a conftest of the user's may raise anything
        message = f"pytest_attnconf_register_backends: {type(error).__name__}: {error}"
        raise usage_error(message) from None
    _check_isolation(state)


def _check_isolation(state: State) -> None:
    """Refuse a time that nobody could keep, and a process of its own for what another process cannot make."""
    from attnconf.errors import BackendUnavailableError, InvalidInputError
    from attnconf.running.processes.isolation import UnreachableFactoryError

    session = state.session
    here = [name for name in state.backends if not session.isolates(name)]
    if here and state.option("case_seconds") is not None:
        given = f"backend {here[0]} runs in pytest's own process, where nothing can end a case that hangs"
        allowed = f"beside {flag('isolate')}=on and a factory of an installed module, or for other backends"
        raise InvalidInputError(flag("case_seconds"), given=given, allowed=allowed)
    for name in state.backends:
        if session.isolates(name) and session.registry.registered(name) is not None:
            try:
                session.declaration(name)
            except UnreachableFactoryError as error:
                raise InvalidInputError(flag("isolate"), given=str(error)) from None
            except BackendUnavailableError:  # the header says why, and so do its tests
                continue


def claimed_sm(state: State) -> Condition | None:
    """Return what ``--attnconf-require-sm`` claims of this machine, or None."""
    from attnconf.errors import InvalidInputError
    from attnconf.policy.conditions import Condition

    claimed = state.option("require_sm")
    if not claimed:
        return None
    try:
        return Condition.from_data({"sm": [claimed]}, "--attnconf-require-sm")
    except InvalidInputError:
        allowed = 'a compute capability such as "10.0" or "10.x"'
        raise InvalidInputError(flag("require_sm"), given=repr(claimed), allowed=allowed) from None


def _check_retries(state: State) -> None:
    if state.option("allow_retries"):
        return
    for name, plugin in RETRIES.items():
        if _is_on(state.config, name):
            stop(
                f"attnconf: a retry turns a fault of one run in a thousand into a pass, and {plugin} is on;"
                " leave it out, or say --attnconf-allow-retries",
                EXIT_NOT_AS_CLAIMED,
            )


def _is_on(config: pytest.Config, name: str) -> bool:
    """Whether a retry is asked for on the command line, or by an ini file, which these plugins read, too."""
    if config.getoption(name, None):
        return True
    try:
        return str(config.getini(name)) not in {"", "0", "None", "False"}
    except (KeyError, ValueError):  # no plugin has such an entry
        return False


def _check_machine(state: State) -> None:
    claimed = claimed_sm(state)
    if claimed is not None and not claimed.holds(state.platform):
        platform = state.platform
        found = f"is {platform.device}, SM {platform.sm_text}" if platform.sm else "has no GPU"
        stop(f"attnconf: this runner claims {claimed.text}, but the machine {found}", EXIT_NOT_AS_CLAIMED)
