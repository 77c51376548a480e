"""Drift: where an installed engine differs from the policy, over all combinations of what the engine looks at."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import TYPE_CHECKING

from attnconf.cases.dtypes import KVDtype
from attnconf.errors import InvalidInputError
from attnconf.platforms import Platform
from attnconf.policy.axes import question_text
from attnconf.policy.drift.engine import Answer, Engine, Scope
from attnconf.policy.question import Question, UserChoice
from attnconf.policy.resolution import resolve
from attnconf.values import Value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from attnconf.policy.policy import Policy
    from attnconf.policy.resolution import Resolution

SMS = ((8, 0), (8, 9), (9, 0), (10, 0), (10, 3), (11, 0), (12, 0), (12, 1))
CUDAS = ("12.2", "12.4", "12.8")
KV_DTYPES: tuple[KVDtype, ...] = ("bfloat16", "float8_e4m3fn")
"""The compute capabilities, CUDA versions and KV dtypes of the compared questions."""


class Difference(Value):
    """Different answers of policy and engine to ``count`` questions; ``example`` is the first of them."""

    architecture: str
    policy: str
    engine: str
    example: str
    count: int

    @property
    def sentence(self) -> str:
        """The difference in words: for which questions, and both answers."""
        more = f" (and {self.count - 1} more)" if self.count > 1 else ""
        return f"{self.example}: the policy says {self.policy}, the engine {self.engine}{more}"


class Drift(Value):
    """The result of a comparison over ``questions`` questions; both sides refuse ``refused`` of them.

    ``differences`` are grouped by the two answers. ``refusals`` counts the engine's refusals by their first sentence.
    """

    policy: str
    engine: str
    version: str
    questions: int
    refused: int
    refusals: dict[str, int]
    differences: tuple[Difference, ...]


def compare(policy: Policy, engine: Engine) -> Drift:
    """Compare the answers of the policy and the engine to every question.

    Raises ``InvalidInputError`` for a policy of another engine, and ``BackendUnavailableError`` for an engine that
    cannot answer.
    """
    if policy.provenance.engine != engine.name:
        allowed = f"a policy whose provenance.engine is {engine.name}"
        raise InvalidInputError(policy.name, given=policy.provenance.engine, allowed=allowed)
    refusals: Counter[str] = Counter()
    found: dict[tuple[str, str, str], list[str]] = {}
    count = refused = 0
    for question in questions(policy, engine):
        count += 1
        mine, theirs = resolve(policy, question), engine.answer(question)
        if theirs.refusal:
            refusals[theirs.refusal.split(". ")[0]] += 1
        if not _agree(mine, theirs):
            key = (question.architecture, mine.backend or f"refused ({mine.refusal})", _shown(theirs))
            found.setdefault(key, []).append(_example(question))
        elif theirs.refusal:
            refused += 1
    return Drift(
        policy=policy.name,
        engine=engine.name,
        version=engine.version,
        questions=count,
        refused=refused,
        refusals=dict(refusals.most_common()),
        differences=tuple(
            Difference(architecture=key[0], policy=key[1], engine=key[2], example=examples[0], count=len(examples))
            for key, examples in found.items()
        ),
    )


def questions(policy: Policy, engine: Engine) -> Iterator[Question]:
    """Yield architecture x capability x CUDA x drafts x KV dtype x the engine's other settings x the user's choice."""
    scope = engine.scope
    machines = [Platform(device="asked", sm=sm, cuda=cuda, simulated=True) for sm, cuda in product(SMS, CUDAS)]
    drafts = (("none", 1, None), *scope.drafts)
    users = list(_users(policy, scope))
    varied = {"kv_dtype": KV_DTYPES, **scope.settings}
    settings = [dict(zip(varied, values, strict=True)) for values in product(*varied.values())]
    for architecture, platform, draft, setting, user in product(
        policy.architectures, machines, drafts, settings, users
    ):
        speculative, q_len, topk = draft
        fields = {"speculative": speculative, "q_len": q_len, "topk": topk, **setting}
        yield Question.model_validate({"architecture": architecture, "platform": platform, "user": user, **fields})


def _users(policy: Policy, scope: Scope) -> Iterator[UserChoice]:
    names = tuple(dict.fromkeys((*policy.backends, *scope.others)))
    yield UserChoice()
    for name in names:
        yield UserChoice(attention=name)
        if scope.sides:
            yield UserChoice(prefill=name)
            yield UserChoice(decode=name)
    for prefill, decode in product(names, names) if scope.sides else ():
        if prefill != decode:
            yield UserChoice(prefill=prefill, decode=decode)


def _agree(mine: Resolution, theirs: Answer) -> bool:
    if theirs.refusal or mine.by == "refused":
        return bool(theirs.refusal) and mine.stated
    return (mine.prefill, mine.decode) == (theirs.prefill, theirs.decode)


def _shown(answer: Answer) -> str:
    return f"refused ({answer.refusal})" if answer.refusal else answer.text


def _example(question: Question) -> str:
    user = question.user
    sides = (("", user.attention), ("prefill ", user.prefill), ("decode ", user.decode))
    named = [f"{side}{name}" for side, name in sides if name is not None]
    return question_text(question) + (f", user's {' and '.join(named)}" if named else "")
