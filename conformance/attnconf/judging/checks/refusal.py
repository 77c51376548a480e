"""Clause 20: a backend refuses what it declares unsupported, with the reason, before it writes anything.

The other checks test what a backend claims to support. This one tries the rest: a declaration that the code does not
keep is how a wrong answer, or a crash, reaches a user whose engine did not call ``supports`` first.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import replace
from typing import TYPE_CHECKING

from attnconf.backends.builds import without_compiling
from attnconf.backends.protocol import Dispatching, declared
from attnconf.bounded import lse_units, out_units
from attnconf.cases.inputs.target import make_target
from attnconf.cases.shape import kernel_shape
from attnconf.clauses import Clause
from attnconf.errors import UnsupportedError
from attnconf.judging.checks import outlines
from attnconf.judging.checks.check import always
from attnconf.judging.controls import behind_what_is_supported
from attnconf.judging.execution import classify, ended, run_into, same_bits
from attnconf.judging.posed import PosedCase
from attnconf.judging.result import RAISED, CaseResult, Failure, LayerResult, Outcome
from attnconf.judging.surroundings import Surroundings
from attnconf.judging.trial import Trial
from attnconf.precision import NumericsProfile

if TYPE_CHECKING:
    import torch

    from attnconf.backends.protocol import Backend, LseBase
    from attnconf.cases.case import Case
    from attnconf.judging.execution import Output
    from attnconf.platforms import Platform

CHECK_NAME = "refusal"
FALLBACK_NAME = outlines.FALLBACK.name
REFUSALS = (UnsupportedError, ValueError, NotImplementedError, TypeError)
"""Exceptions that count as a refusal when they say why; anything else is a crash."""

STALE = "declaration is stale: it ran and was right"
"""The reason of a layer that is declared unsupported although it works."""


def probe_refusal(
    case: Case,
    backend: Backend,
    platform: Platform,
    device: torch.device,
    surroundings: Surroundings | None = None,
) -> list[LayerResult]:
    """Run each layer of ``case`` whose shape ``backend`` declares unsupported; nothing is raised.

    The outcome is unsupported for a refusal with a reason, and for a right answer (with the reason ``STALE``). A wrong
    answer, a refusal without a reason and a refusal after a write fail clause 20; any other exception is a crash.
    Nothing is compiled for this: a layer whose library would compile first is not run.
    """
    posed = PosedCase(case, device)
    surroundings = Surroundings() if surroundings is None else surroundings
    found = []
    for layer in range(len(case.layers)):
        try:
            with surroundings.of_torch():
                is_supported = declared(backend, kernel_shape(case, layer), platform) is None
        except RAISED as error:
            found.append(ended(layer, error, "supports"))
            continue
        if not is_supported:
            probed = _probe(posed, layer, backend, surroundings)
            if probed.worst_units is not None and probed.outcome is Outcome.FAILED:
                trial = Trial(posed, backend, platform, surroundings=surroundings)
                with without_compiling(backend):
                    failures = behind_what_is_supported(trial, layer, list(probed.failures))
                probed = replace(probed, failures=tuple(failures))
            found.append(probed)
    return found


def probe_case(
    case: Case,
    backend: Backend,
    platform: Platform,
    device: torch.device,
    surroundings: Surroundings | None = None,
) -> CaseResult:
    """Return the results of ``probe_refusal`` as the result of the whole case."""
    layers = tuple(probe_refusal(case, backend, platform, device, surroundings))
    return CaseResult(case=case, backend=backend.name, evidence=backend.evidence, layers=layers)


def _probe(posed: PosedCase, layer: int, backend: Backend, surroundings: Surroundings) -> LayerResult:
    batch = posed.batch
    before = [(name, tensor.clone()) for name, tensor in batch.tensors()]
    base: LseBase | None = backend.promises.lse
    target = make_target(batch, layer, lse=base is not None)
    output: Output | None = None
    reason = ""
    try:
        with without_compiling(backend):
            with surroundings.of_torch():
                prepared = backend.prepare(batch)
            output = run_into(prepared, layer, target, base, surroundings, posed.oracle_device)
    except REFUSALS as error:
        reason = classify(error)[1]
        if not str(error).strip():
            return _failed(layer, f"it refused with a bare {type(error).__name__}, naming no reason")
    except RAISED as error:
        return ended(layer, error)
    finally:
        changed = [
            name for (name, copy), (_, now) in zip(before, batch.tensors(), strict=True) if not same_bits(copy, now)
        ]
        _restore(before, batch.tensors())
    if changed or not target.guards_intact:
        where = f"its input {changed[0]}" if changed else "memory around the output"
        return _failed(layer, f"it changed {where} on a shape that it declares unsupported")
    if output is not None:
        return _judge(posed, layer, output, _profile(posed.case, layer, backend, surroundings))
    if target.unwritten < target.elements:
        return _failed(layer, f"it wrote to the output before it refused ({reason})")
    return LayerResult(layer=layer, outcome=Outcome.UNSUPPORTED, reason=reason)


def _judge(posed: PosedCase, layer: int, output: Output, profile: NumericsProfile) -> LayerResult:
    """Compare the answer to an unsupported shape with the oracle."""
    if output.unwritten:
        return _failed(layer, f"it returned with {output.unwritten} elements unwritten, and raised nothing", output)
    worst = 0.0
    for request in range(len(posed.case.requests)):
        expected, rows = posed.answer(layer, request, profile), posed.rows(request)
        if expected.answer.out.numel():
            worst = max(worst, float(out_units(output.out[rows], expected).max()))
            if output.lse is not None:
                worst = max(worst, float(lse_units(output.lse[rows], expected).max()))
    if worst > 1.0:
        return _failed(layer, "it answered a shape that it declares unsupported, and wrongly", output, worst)
    return LayerResult(layer=layer, outcome=Outcome.UNSUPPORTED, reason=STALE, kernel=output.kernel, worst_units=worst)


def _profile(case: Case, layer: int, backend: Backend, surroundings: Surroundings) -> NumericsProfile:
    """Return the declared profile, or without one the profile of a kernel with P in the query's dtype."""
    try:
        with surroundings.of_torch():
            return backend.numerics(kernel_shape(case, layer))
    except Exception:  # noqa: BLE001 - a backend need not have a profile for an unsupported shape
        return NumericsProfile(p=case.q_dtype, row_sum=case.q_dtype, partials=case.q_dtype)


def _failed(layer: int, summary: str, output: Output | None = None, units: float | None = None) -> LayerResult:
    failure = Failure(clause=Clause.REFUSAL, check=CHECK_NAME, layer=layer, units=units, summary=summary)
    kernel = "" if output is None else output.kernel
    return LayerResult(layer=layer, outcome=Outcome.FAILED, kernel=kernel, worst_units=units, failures=(failure,))


def _restore(before: list[tuple[str, torch.Tensor]], now: list[tuple[str, torch.Tensor]]) -> None:
    """Restore changed inputs, so that the next layer gets the same batch."""
    for (_, copy), (_, tensor) in zip(before, now, strict=True):
        if not same_bits(copy, tensor):
            tensor.copy_(copy)


def _fallback(trial: Trial, layer: int) -> list[Failure]:
    """Compare the kernel that ran with the kernels that the backend names for the shape."""
    kernel = trial.base(layer).kernel
    if not isinstance(trial.backend, Dispatching):
        return []
    with trial.surroundings.of_torch():
        named: object = trial.backend.kernels(trial.shape(layer))
    if not isinstance(named, AbstractSet) or not all(isinstance(one, str) for one in named):
        raise RuntimeError(f"kernels returned {named!r}, and no set of names")  # no TypeError: that would be a refusal
    if kernel in named:
        return []
    summary = f"{kernel} ran, and not {' or '.join(sorted(named)) or 'any kernel that it names'}: a silent fallback"
    return [Failure(clause=Clause.REFUSAL, check=FALLBACK_NAME, layer=layer, summary=summary)]


FALLBACK = outlines.FALLBACK.check(always, _fallback)
"""Fails when a kernel ran that the backend does not name for the shape."""
