"""Check a policy: every question has exactly one answer, and every choice can run and must be proven."""

from __future__ import annotations

import datetime as dt
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from attnconf.errors import InvalidInputError
from attnconf.policy.question import Question
from attnconf.policy.reach import EVERY, MOST_WORK, OPEN, reachable, refuse_too_many
from attnconf.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from attnconf.policy.conditions import Condition
    from attnconf.policy.policy import Policy, Rule

FaultKind = Literal["hole", "overlap", "unreachable", "contradiction", "unproven", "unprovable", "waiver"]


class Fault(Value):
    """One fault of a policy, in one sentence.

    hole: no rule takes some question. overlap: several rules take a question, and the last one is not a fallback
    without conditions. unreachable: a rule or refusal never decides. contradiction: the needs of a choice never hold
    where it is made, or it is always refused. unproven: a choice requires no cell that must run. unprovable: a
    rule takes the masks of images or trees of drafts, requires no cell that shows them, and does not say why. waiver: a
    waiver has expired, or selects no required cell.
    """

    kind: FaultKind
    sentence: str


def check_policy(policy: Policy, today: dt.date | None = None) -> tuple[Fault, ...]:
    """Return the faults of the policy over all platforms and settings. ``today`` is by default the current day in UTC.

    Raises ``InvalidInputError`` when the rules overlap in more ways than can be analysed.
    """
    day = today or dt.datetime.now(dt.UTC).date()
    faults = list(_needs(policy))
    work = 0
    for name in policy.architectures:
        conditions = _conditions(policy, name)
        states = reachable(conditions, Question(architecture=name), users=OPEN)
        work += len(states) * len(conditions)
        if work > MOST_WORK:
            refuse_too_many()
        faults += _architecture(policy, name, states)
    faults += [*_unproven(policy), *_unprovable(policy), *waiver_faults(policy, day)]
    return tuple(dict.fromkeys(faults))


def refuse_faulty(policy: Policy, source: str) -> None:
    """Raise ``InvalidInputError`` with the first fault. Faults of waivers are left to the verdict."""
    fault = next((fault for fault in check_policy(policy) if fault.kind != "waiver"), None)
    if fault is not None:
        raise InvalidInputError(source, given=fault.sentence, allowed="a policy that passes attnconf policy check")


def waiver_faults(policy: Policy, today: dt.date) -> Iterator[Fault]:
    """Yield the waivers that have expired or select no required cell of any rule."""
    cells = policy.all_required
    for waiver in policy.waivers:
        if waiver.is_expired(today):
            yield Fault(kind="waiver", sentence=f"{waiver.text} has expired")
        if not any(waiver.has(cell) for cell in cells):
            yield Fault(kind="waiver", sentence=f"{waiver.text} selects no required cell")


def _needs(policy: Policy) -> Iterator[Fault]:
    for name, needs in policy.backends.items():
        if not _can_hold(needs):
            yield Fault(kind="contradiction", sentence=f"backends.{name}: no platform is {needs.text}")
    for refusal in policy.refusals:
        if not _can_hold(refusal):
            yield Fault(
                kind="unreachable", sentence=f"refusal {refusal.name} never holds: no platform is {refusal.text}"
            )


def _can_hold(condition: Condition) -> bool:
    return any(reachable([condition], Question(architecture="any"), users=EVERY))


def _conditions(policy: Policy, architecture: str) -> list[Condition]:
    """Return the rules of one architecture, then the needs of each backend, then the refusals."""
    return [*policy.rules_of(architecture), *policy.backends.values(), *policy.refusals]


def _architecture(policy: Policy, architecture: str, states: Mapping[frozenset[int], Question]) -> Iterator[Fault]:
    """Yield the faults of the rules of one architecture; ``states`` are its conditions' sets that can hold.

    The first rule of a set decides.
    """
    rules = policy.rules_of(architecture)
    taken = {state: sorted(index for index in state if index < len(rules)) for state in states}
    hole = next((states[state] for state, indices in taken.items() if not indices), None)
    if hole is not None:
        yield Fault(kind="hole", sentence=f"{architecture}: no rule takes {_where(hole, rules)}")
    yield from _overlaps(rules, states, taken, architecture)
    yield from _undecided(policy, architecture, rules, taken)


def _undecided(
    policy: Policy, architecture: str, rules: tuple[Rule, ...], taken: Mapping[frozenset[int], list[int]]
) -> Iterator[Fault]:
    """Yield the rules that never decide, or whose choice never can run."""
    backends = list(policy.backends)
    for index, rule in enumerate(rules):
        mine = [state for state, indices in taken.items() if indices and indices[0] == index]
        if not mine:
            why = (
                "no platform is " + rule.text
                if not any(index in state for state in taken)
                else "earlier rules take all"
            )
            yield Fault(kind="unreachable", sentence=f"rule {rule.name} never decides for {architecture}: {why}")
            continue
        if rule.choice is None:
            continue
        for backend in rule.choice.backends:
            need = len(rules) + backends.index(backend)
            if not any(need in state for state in mine):
                needs = policy.backends[backend].text
                sentence = (
                    f"rule {rule.name} gives {architecture} {backend}, which needs {needs}: never so where it decides"
                )
                yield Fault(kind="contradiction", sentence=sentence)
        vetoes = {
            len(rules) + len(backends) + place
            for place, one in enumerate(policy.refusals)
            if one.concerns(architecture, rule.choice)
        }
        if all(vetoes & state for state in mine):
            sentence = f"rule {rule.name} gives {architecture} {' and '.join(rule.choice.backends)}: always refused"
            yield Fault(kind="contradiction", sentence=sentence)


def _overlaps(
    rules: tuple[Rule, ...],
    states: Mapping[frozenset[int], Question],
    taken: Mapping[frozenset[int], list[int]],
    architecture: str,
) -> Iterator[Fault]:
    seen = set()
    for state, indices in taken.items():
        specific = [index for index in indices if not rules[index].is_always]
        for pair in pairwise(specific):
            if pair in seen:
                continue
            seen.add(pair)
            first, second = (rules[index].name for index in pair)
            where = _where(states[state], rules)
            yield Fault(kind="overlap", sentence=f"{architecture}: rules {first} and {second} both take {where}")


def _unproven(policy: Policy) -> Iterator[Fault]:
    for rule in policy.rules:
        choice = rule.choice
        if choice is None:
            continue
        for architecture in rule.architectures:
            cells = policy.required_cells(architecture, rule.name, choice)
            for backend in choice.backends:
                if not any(cell.backend == backend and not cell.unsupported for cell in cells):
                    sentence = f"rule {rule.name} gives {architecture} {backend}, of which no cell must be proven"
                    yield Fault(kind="unproven", sentence=sentence)


def _unprovable(policy: Policy) -> Iterator[Fault]:
    for rule in policy.rules:
        if rule.unproven is None:
            for sentence in _unshown(policy, rule):
                yield Fault(kind="unprovable", sentence=sentence)
        elif not (rule.takes_images or rule.takes_trees):
            sentence = f"rule {rule.name} has unproven, but takes no masks of images and no trees of drafts"
            yield Fault(kind="unprovable", sentence=sentence)
        elif rule.takes_images and len(rule.mask) > 1:
            sentence = f"rule {rule.name} takes the masks of images beside others: they need a rule of their own"
            yield Fault(kind="unprovable", sentence=sentence)
        elif rule.takes_trees and rule.takes_chains:
            sentence = f"rule {rule.name} takes trees of drafts beside chains: they need a rule of their own"
            yield Fault(kind="unprovable", sentence=sentence)


def _unshown(policy: Policy, rule: Rule) -> Iterator[str]:
    """Yield which architecture's required cells cannot show the images or the trees that ``rule`` takes, if any."""
    wanted = {
        "spans": (rule.takes_images, "the masks of images", "extend or mixed cell of a layer that follows them"),
        "tree": (rule.takes_trees, "trees of drafts", "verify cell"),
    }
    for feature, (takes, what, cell_of) in wanted.items():
        for architecture in rule.architectures if takes else ():
            cells = policy.required_cells(architecture, rule.name, rule.choice) if rule.choice is not None else ()
            if not any(feature in cell.effective and not cell.unsupported for cell in cells):
                yield (
                    f"rule {rule.name} takes {what}, but requires of {architecture} no {cell_of}, so nothing proves its"
                    " backend; require one, or leave them to a rule of their own, which says in unproven why it stands"
                )
                break


def _where(question: Question, conditions: Sequence[Condition]) -> str:
    """Return the question in words, with only the axes of the conditions."""
    axes = dict.fromkeys(axis for condition in conditions for axis in condition.asks)
    parts = [axis.words(axis.value_of(question)) for axis in axes]
    return ", ".join(part for part in parts if part) or "any platform"
