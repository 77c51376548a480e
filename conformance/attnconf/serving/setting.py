"""Setting: where a story happens: a memory, how long its requests are, and the layers that its batches ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from attnconf.cases.drawing.families import geometry_for
from attnconf.cases.dtypes import QDtype
from attnconf.cases.models import FREE_MODEL, load_model
from attnconf.errors import InvalidInputError
from attnconf.serving.layers import model_layers, small_layers
from attnconf.serving.managers.own import OwnManager
from attnconf.serving.managers.registry import DRAFTLESS, MANAGERS, manager_named
from attnconf.serving.sizes import SMALL, Sizes
from attnconf.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.cases.case import Layer
    from attnconf.serving.managers.protocol import Manager

OWN = "own"


class Setting(Value):
    """What a story needs to be told again.

    ``memory`` names the manager, and ``sizes`` are those of our own. ``model`` gives the layers, small ones for
    ``free``: sliding ones have the window of the memory. ``q_dtype`` is that of queries and keys. What the machine
    draws as one token stands for up to ``stretch``.
    """

    memory: str = OWN
    sizes: Sizes = SMALL
    model: str = FREE_MODEL
    q_dtype: QDtype = "float32"
    stretch: int = 1

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.memory not in MANAGERS:
            raise ValueError(f"memory is {self.memory!a}; allowed: {', '.join(MANAGERS)}")
        if self.memory != OWN and self.sizes != SMALL:
            raise ValueError(f"sizes belong to the memory {OWN}, not to {self.memory}")
        return self

    @property
    def drafts(self) -> bool:
        """Whether the memory takes drafts."""
        return self.memory not in DRAFTLESS

    def factory(self) -> Callable[[], Manager]:
        """Return what makes the memory. Raises ``BackendUnavailableError`` without its engine."""
        made = manager_named(self.memory)
        if self.memory != OWN:
            return made
        return lambda: OwnManager(**self.sizes.model_dump())

    def layers(self, *, accelerated: bool) -> tuple[str, tuple[Layer, ...]]:
        """Return the model's name and layers: on a GPU the whole ones, elsewhere a slice of their heads.

        Raises ``InvalidInputError`` for a model that is unknown, or that the memory cannot hold.
        """
        window = self.factory()().window_left
        if self.model == FREE_MODEL:
            return FREE_MODEL, small_layers(window)
        model = geometry_for(load_model(self.model), accelerated=accelerated)
        return model.name, model_layers(model, window)


def setting_of(model: str) -> Setting:
    """Return where the suite plays for ``model``: our own memory, with the model's own window.

    Raises ``InvalidInputError`` for a model that is unknown, or whose sliding layers differ in their window.
    """
    if model == FREE_MODEL:
        sizes = Sizes(full=18, swa=12, page_size=16, window_left=23)
        return Setting(sizes=sizes, q_dtype="bfloat16", stretch=4)
    windows = {layer.window_left for layer in load_model(model).layers if layer.kind == "sliding"}
    if len(windows) != 1:
        given = f"{model} has {len(windows)} windows"
        raise InvalidInputError("machine", given=given, allowed="a model whose sliding layers have one window")
    sizes = Sizes(full=40, swa=28, page_size=64, window_left=windows.pop())
    return Setting(sizes=sizes, model=model, q_dtype="bfloat16", stretch=16)
