"""Run one case on one backend: the function behind suite, command line, replay and benchmarks."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import torch

from attnconf.backends.builds import BUILD_BUDGET, VARIANT_BUDGET, missing_build, unbuilt_reason
from attnconf.backends.demands import unmet_promise
from attnconf.judging.checks.catalogue import rotated_checks
from attnconf.judging.device_memory import memory_held_by_others
from attnconf.judging.effects import effective_features, scenes_to_try, units_by_layer
from attnconf.judging.execution import ended
from attnconf.judging.posed import PosedCase
from attnconf.judging.result import RAISED, CaseResult, LayerResult, Outcome
from attnconf.judging.trial import Trial

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from attnconf.backends.builds import Build
    from attnconf.backends.protocol import Backend
    from attnconf.cases.case import Case
    from attnconf.cases.shape import KernelShape
    from attnconf.judging.checks.check import Check
    from attnconf.judging.result import Failure
    from attnconf.judging.surroundings import Surroundings
    from attnconf.platforms import Platform

    Missing = Callable[[KernelShape], Build | None]
    """From a shape to the build that it lacks."""


def run_case(  # noqa: PLR0913 - a case, a backend, where it runs, and how thoroughly
    case: Case,
    backend: Backend,
    platform: Platform,
    device: torch.device,
    *,
    choose: Callable[[Case], tuple[Check, ...]] = rotated_checks,
    build_budget: float = BUILD_BUDGET,
    explain: bool = True,
    count_effects: bool = True,
    surroundings: Surroundings | None = None,
) -> CaseResult:
    """Run ``case`` on ``backend`` on ``device`` and judge it by the checks that ``choose`` picks.

    Whatever a backend does (a wrong answer, a refusal, an exception, out of memory) becomes a typed outcome of its
    layers; nothing is raised. A kernel whose build costs more CPU seconds than ``build_budget`` is used only if it is
    built. With ``explain`` false a wrong answer is recognised but not explained: an explanation takes dozens of
    answers, and a search needs one for its last case only. Variants of the case then build nothing above
    ``VARIANT_BUDGET``. Without ``count_effects`` the layers do not say which
    features mattered, so the results are not evidence. ``surroundings`` are the backend's own, if it was asked before.
    """
    started = time.perf_counter()
    of_variants = build_budget if explain else min(build_budget, VARIANT_BUDGET)
    trial = Trial(
        PosedCase(case, device),
        backend,
        platform,
        partial(missing_build, backend, budget=of_variants),
        explains=explain,
        counts_effects=count_effects,
        surroundings=surroundings,
    )
    checks = choose(case)
    layers = _run_layers(trial, checks, partial(missing_build, backend, budget=build_budget))
    return CaseResult(
        case=case,
        backend=backend.name,
        evidence=backend.evidence,
        layers=layers,
        seconds=time.perf_counter() - started,
        runs=trial.runs,
        checks=tuple(check.name for check in checks),
    )


def _run_layers(trial: Trial, checks: tuple[Check, ...], missing: Missing) -> tuple[LayerResult, ...]:
    """Run every supported layer before the first one is judged, since they share a batch."""
    case = trial.case
    done: dict[int, LayerResult] = {}
    for layer in range(len(case.layers)):
        found = _not_run(trial, layer, missing)
        if found is not None:
            done[layer] = found
    for layer in range(len(case.layers)):
        if layer in done:
            continue
        try:
            trial.base(layer)
        except RAISED as error:
            done[layer] = ended(layer, error)
    for layer in trial.answered:
        done[layer] = _judge_layer(trial, layer, checks)
    if trial.counts_effects:
        _count_effects(trial, done)
    if any(found.outcome is Outcome.OOM for found in done.values()):
        _excuse(done, memory_held_by_others(case, trial.posed.device))
    return tuple(done[layer] for layer in sorted(done))


def _not_run(trial: Trial, layer: int, missing: Missing) -> LayerResult | None:
    """Return the result of a layer that is not run: declared unsupported, not built, or its declaration fails."""
    try:
        shape = trial.shape(layer)
        refusal = unmet_promise(trial.case, layer, trial.backend.promises)
        refusal = refusal or trial.declares(shape)
        with trial.surroundings.of_torch():
            lacks = None if refusal is not None else missing(shape)
    except RAISED as error:
        return ended(layer, error, "supports")
    if refusal is not None:
        return LayerResult(layer=layer, outcome=Outcome.UNSUPPORTED, reason=refusal.reason)
    if lacks is not None:
        return LayerResult(layer=layer, outcome=Outcome.NOT_RUN, reason=unbuilt_reason(lacks), unbuilt=lacks.name)
    return None


def _judge_layer(trial: Trial, layer: int, checks: tuple[Check, ...]) -> LayerResult:
    failures: list[Failure] = []
    kernel = trial.base(layer).kernel
    try:
        profile = trial.numerics(trial.shape(layer))
        bound, loose = str(profile.text), str(profile.reason)
        worst = max(trial.all_base_units(layer))
    except RAISED as error:
        return ended(layer, error, "numerics")
    corrupted = trial.changed_input() is not None
    for check in checks:
        settled = corrupted or (bool(failures) and not trial.explains)
        if (settled and check.extra) or not check.applies(trial, layer):
            continue
        try:
            failures += check.run(trial, layer)
        except RAISED as error:
            result = ended(layer, error, f"check {check.name}")
            return replace(
                result, kernel=kernel, worst_units=worst, profile=bound, loose=loose, failures=tuple(failures)
            )
    passed = Outcome.PASSED if trial.backend.evidence == "kernel" else Outcome.CONTRACT_ONLY
    return LayerResult(
        layer=layer,
        outcome=Outcome.FAILED if failures else passed,
        kernel=kernel,
        worst_units=worst,
        profile=bound,
        loose=loose,
        failures=tuple(failures),
    )


def _excuse(done: dict[int, LayerResult], why: str | None) -> None:
    """Turn out of memory into not run if ``why`` says that other processes use the memory."""
    if why is None:
        return
    for index, found in done.items():
        if found.outcome is Outcome.OOM:
            done[index] = LayerResult(layer=index, outcome=Outcome.NOT_RUN, reason=why)


def _count_effects(trial: Trial, done: dict[int, LayerResult]) -> None:
    """Add to results of layers that were judged which features mattered: of a wrong one if it is explained, too."""
    judged = {Outcome.PASSED, Outcome.CONTRACT_ONLY, *([Outcome.FAILED] if trial.explains else [])}
    layers = [layer for layer in trial.answered if done[layer].outcome in judged]
    try:
        effective = dict(zip(layers, _effective(trial, layers), strict=True))
    except torch.OutOfMemoryError:
        effective = {}
    for layer in layers:
        try:
            found = effective[layer] if effective else _effective(trial, [layer])[0]
            done[layer] = replace(done[layer], effective=found)
        except torch.OutOfMemoryError as error:
            if done[layer].outcome is not Outcome.FAILED:
                done[layer] = replace(ended(layer, error, "effects"), kernel=done[layer].kernel)


def _effective(trial: Trial, layers: Sequence[int]) -> list[tuple[str, ...]]:
    requests = scenes_to_try(trial.case)
    scenes = [[(trial.posed.scene(layer, one), trial.expected(layer, one)) for one in requests] for layer in layers]
    return [effective_features(units) for units in units_by_layer(scenes)] if layers else []
