"""The header of a run: the machine, the versions, the backends, and what the policy chooses."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.backends.protocol import shown_name
from attnconf.platforms import PACKAGES
from attnconf.policy.policy import policy_digest
from attnconf.policy.resolution import resolve_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.platforms import Platform
    from attnconf.policy.policy import Policy
    from attnconf.running.processes.declaration import Declaration
    from attnconf.running.session import Session


def header_lines(
    session: Session, backends: Sequence[str], policy: Policy | None, policy_platform: Platform | None = None
) -> list[str]:
    """Return what the run is about: the machine, the versions, the backends, the policy's choice.

    The policy is resolved for ``policy_platform``, which may be simulated, else for this machine.
    """
    platform = session.platform
    gpu = "no GPU"
    if platform.sm:
        gpu = f"{platform.device}, SM {platform.sm_text}, driver {platform.driver}, CUDA {platform.cuda}"
    versions = ", ".join(f"{name} {platform.packages.get(name, 'missing')}" for name in PACKAGES)
    lines = [f"attnconf: {gpu}; {versions}", f"attnconf: profile {session.profile.name}, seed {session.seed}"]
    for name in backends:
        reason = session.why_not(name)
        lines.append(
            f"attnconf: backend {_works(session.declaration(name)) if reason is None else f'{name}: missing: {reason}'}"
        )
    if policy is not None:
        lines.append(f"attnconf: policy {policy.name} ({policy_digest(policy)[:12]})")
        target = policy_platform or platform
        lines += [f"attnconf:   {resolution.sentence}" for resolution in resolve_all(policy, target)]
    return lines


def _works(backend: Declaration) -> str:
    shown = shown_name(backend.name, backend.evidence)
    if backend.evidence == "kernel":
        return shown
    return f"{shown}: its documented contract is executed, not its kernels; this is no kernel evidence"
