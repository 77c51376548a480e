"""Run one case on one or many backends: the one function that suite, command line, replay and benchmarks call."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from attnconf.checks.catalogue import rotated_checks
from attnconf.checks.numerics import worst_units
from attnconf.demands import unmet_promise
from attnconf.effects import effective_features, mistake_units
from attnconf.execution import classify
from attnconf.result import CaseResult, LayerResult, Outcome
from attnconf.shape import kernel_shape
from attnconf.trial import Question, Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch

    from attnconf.backends.protocol import Backend
    from attnconf.case import Case
    from attnconf.checks.check import Check
    from attnconf.platforms import Platform
    from attnconf.result import Failure


def run_case(
    case: Case,
    backends: Sequence[Backend],
    platform: Platform,
    device: torch.device,
    *,
    choose: Callable[[Case], tuple[Check, ...]] = rotated_checks,
) -> list[CaseResult]:
    """Run ``case`` on each of ``backends`` on ``device`` and judge it by the checks that ``choose`` picks.

    Whatever a backend does (a wrong answer, a refusal, an exception, out of memory) becomes a typed outcome of its
    layers; nothing is raised. Inputs and right answers are derived once and shared.
    """
    question = Question(case, device)
    return [_run_backend(question, backend, platform, choose(case)) for backend in backends]


def _run_backend(question: Question, backend: Backend, platform: Platform, checks: tuple[Check, ...]) -> CaseResult:
    started = time.perf_counter()
    trial = Trial(question, backend, platform)
    done: dict[int, LayerResult] = {}
    for layer in range(len(question.case.layers)):
        refusal = unmet_promise(question.case, layer, backend.promises) or backend.supports(
            kernel_shape(question.case, layer), platform
        )
        if refusal is not None:
            done[layer] = LayerResult(layer=layer, outcome=Outcome.UNSUPPORTED, reason=refusal.reason)
    waiting = [layer for layer in range(len(question.case.layers)) if layer not in done]
    for layer in waiting:
        try:
            trial.outputs[layer] = trial.run(layer)
        except Exception as error:  # noqa: BLE001 - a backend may raise anything; it becomes a typed outcome
            outcome, text = classify(error)
            done[layer] = LayerResult(layer=layer, outcome=outcome, reason=text)
    for layer in trial.outputs:
        done[layer] = _judge_layer(trial, layer, checks)
    return CaseResult(
        case=question.case,
        backend=backend.name,
        evidence=backend.evidence,
        layers=tuple(done[layer] for layer in sorted(done)),
        seconds=time.perf_counter() - started,
        checks=tuple(check.name for check in checks),
    )


def _judge_layer(trial: Trial, layer: int, checks: tuple[Check, ...]) -> LayerResult:
    failures: list[Failure] = []
    kernel = trial.outputs[layer].kernel
    worst = max(worst_units(trial, layer, request) for request in range(len(trial.case.requests)))
    for check in checks:
        if not check.applies(trial, layer):
            continue
        try:
            failures += check.run(trial, layer)
        except Exception as error:  # noqa: BLE001 - the backend raised in a variant of the case
            outcome, text = classify(error)
            reason = f"in check {check.name}: {text}"
            return LayerResult(layer=layer, outcome=outcome, reason=reason, kernel=kernel, worst_units=worst)
    passed = Outcome.PASSED if trial.backend.evidence == "kernel" else Outcome.CONTRACT_ONLY
    return LayerResult(
        layer=layer,
        outcome=Outcome.FAILED if failures else passed,
        kernel=kernel,
        worst_units=worst,
        effective=_effective(trial, layer),
        failures=tuple(failures),
    )


def _effective(trial: Trial, layer: int) -> tuple[str, ...]:
    requests = range(len(trial.case.requests))
    units = mistake_units((trial.question.scene(layer, request), trial.expected(layer, request)) for request in requests)
    return effective_features(units)
