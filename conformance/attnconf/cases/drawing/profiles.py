"""Profiles: how much a run asks, from a smoke test to a night."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from attnconf.cases.drawing.families import applies
from attnconf.cases.models import FREE_MODEL, load_model, shipped_models
from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from attnconf.cases.drawing.families import Family
    from attnconf.cases.dtypes import KVDtype

_LONG_WINDOW = 1024
_FEWEST = 2
_ONE_LONG_IN = 6
_FEWEST_LONG = 2
_PART_OF_A_MODEL = 4
"""A model is played a quarter: its requests fill windows, and take longer."""

_LONG_FAMILIES = ("decode", "extend", "mixed", "verify", "free")
"""The modes: their cases have windows, redirected layers and hybrid pools, too."""

GEMMA4 = tuple(name for name in shipped_models() if name.startswith("gemma4"))
GATED = (
    *("gemma2-9b", "gemma3-12b", *GEMMA4, "gpt-oss-20b", "llama3-8b", "mistral-7b", "phi3-mini", "qwen2.5-32b"),
    "qwen2.5-7b",
)
"""One model of each kind of geometry: a gate is told to ask of others, and a night asks of all that are shipped."""

MACHINE_MODELS = (FREE_MODEL, "gemma4-e2b")
"""Small layers, and a model with windows, redirected layers and two head dimensions."""


@dataclass(frozen=True)
class Playing:
    """How much of the machine of serving is played: ``events`` at least, and so many ``batches`` at most are asked."""

    events: int = 0
    batches: int = 0


@dataclass(frozen=True, kw_only=True)
class Profile:
    """How many cases each (backend, family, model) gets, of which models, and up to which length.

    ``free`` adds cases whose geometry is drawn, too. A ``derandomised`` profile draws the same cases every time for
    one seed; the other takes a new seed from the clock. With a ``long_kv_len`` above 0, a GPU is asked for so
    many keys in one case in six on top of them, and in two of each mode and model. A CPU gets no such case: the float64
    answer to one takes seconds a layer. A GPU also gets ``gpu_times`` as many cases: what costs there is the builds, of
    which a profile of ``few_builds`` has fewer: two page sizes, and a third of the drawn geometries. ``cards`` of the
    ``free`` cases pair an extreme with a feature, and only ``far`` profiles draw the largest extremes, see
    ``extremes.py``. Those of ``serving`` have the sizes of ``serving.py`` in each mode, too; a CPU bears few of them.
    ``machine`` is how much of the machine of serving is played for small layers; a model gets a quarter of it. With a
    ``kv_dtype`` all cases have such KV, and with ``head_scales`` each KV head of several has scales of its own.
    """

    name: str
    models: tuple[str, ...]
    examples: dict[Family, int]
    max_kv_len: int
    long_kv_len: int = 0
    gpu_times: int = 1
    derandomised: bool = True
    free: bool = True
    brief: bool = False
    few_builds: bool = False
    cards: int = 0
    far: bool = True
    serving: bool = False
    machine: Playing = Playing()
    kv_dtype: KVDtype | None = None
    head_scales: bool = False

    def of(self, models: tuple[str, ...]) -> Profile:
        """Return this profile for ``models`` alone; drawn geometries are among them under the name ``free``."""
        named = tuple(dict.fromkeys(model for model in models if model != FREE_MODEL))
        return replace(self, models=named, free=FREE_MODEL in models)

    def targets(self, family: Family) -> tuple[str, ...]:
        """Return the models that ``family`` is asked of."""
        if not self.examples.get(family):
            return ()
        asked = (*self.models, FREE_MODEL) if self.free else self.models
        return tuple(model for model in asked if applies(family, model))

    @property
    def machine_models(self) -> tuple[str, ...]:
        """The models for which the machine of serving is played."""
        asked = (*self.models, FREE_MODEL) if self.free else self.models
        return tuple(model for model in MACHINE_MODELS if model in asked) if self.machine.events else ()

    def played(self, model: str) -> Playing:
        """Return how much of the machine is played for ``model``."""
        if model == FREE_MODEL:
            return self.machine
        return Playing(-(-self.machine.events // _PART_OF_A_MODEL), -(-self.machine.batches // _PART_OF_A_MODEL))

    def count(self, family: Family, model: str, *, accelerated: bool) -> int:
        """Return how many cases ``family`` asks of ``model``.

        A ``brief`` profile asks fewer of a model with a long window or chunk on a CPU: each case goes past it.
        """
        wanted = self.examples[family]
        if accelerated:
            return wanted * self.gpu_times
        if not self.brief or model == FREE_MODEL:
            return wanted
        longest = max(layer.reach for layer in load_model(model).layers)
        return min(wanted, max(_FEWEST, wanted // (1 + max(0, longest) // _LONG_WINDOW)))

    def long_count(self, family: Family, *, accelerated: bool) -> int:
        """Return how many long cases ``family`` asks of each model on top of ``count``."""
        if not (accelerated and self.long_kv_len and family in _LONG_FAMILIES):
            return 0
        return max(_FEWEST_LONG, self.examples[family] // _ONE_LONG_IN)


def _examples(layers: int, window: int, free: int) -> dict[Family, int]:
    """Return how many cases each family gets of a model: ``layers`` where a case runs all its layers in one mode.

    A case of ``windows`` has one layer, and the modes that need most tokens cost most.
    """
    return {
        "decode": layers,
        "extend": layers,
        "mixed": (layers + 1) // 2,
        "verify": (layers + 1) // 2,
        "windows": window,
        "shared_kv": layers,
        "hybrid_pools": (layers + 1) // 2,
        "free": free,
    }


_OPTION = "--attnconf-profile"

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(
            name="smoke",
            models=GEMMA4,
            examples=_examples(4, 4, 40),
            max_kv_len=200,
            brief=True,
            few_builds=True,
            cards=8,
            far=False,
            serving=True,
        ),
        Profile(
            name="gate",
            models=GATED,
            examples=_examples(7, 6, 100),
            max_kv_len=400,
            long_kv_len=32_768,
            gpu_times=3,
            brief=True,
            cards=54,
            serving=True,
            machine=Playing(events=1500, batches=32),
        ),
        Profile(
            name="nightly",
            models=shipped_models(),
            examples=_examples(200, 100, 5000),
            max_kv_len=1500,
            long_kv_len=262_144,
            derandomised=False,
            cards=54,
            serving=True,
            machine=Playing(events=40_000, batches=2_000),
        ),
        Profile(name="replay", models=(), examples={}, max_kv_len=0),
    )
}


def profile_named(name: str) -> Profile:
    """Return a profile. Raises ``InvalidInputError`` that lists the known ones."""
    if name not in PROFILES:
        raise InvalidInputError(_OPTION, given=repr(name), allowed=", ".join(PROFILES))
    return PROFILES[name]
