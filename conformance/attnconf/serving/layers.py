"""The layers that the machine asks for: small ones for thousands of batches, and those of a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attnconf.cases.case import Layer
from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from attnconf.cases.geometry import ModelGeometry


def small_layers(window_left: int) -> tuple[Layer, ...]:
    """Return a sliding layer, a full one, and one of each that reads their keys; without a window, the full ones."""
    heads = {"num_qo_heads": 4, "num_kv_heads": 2, "head_dim": 64, "sm_scale": 0.125}
    if window_left < 0:
        return (
            Layer.model_validate({"kind": "full", **heads}),
            Layer.model_validate({"kind": "full", "kv_owner": 0, **heads}),
        )
    sliding = {"kind": "sliding", "window_left": window_left, **heads}
    return (
        Layer.model_validate(sliding),
        Layer.model_validate({"kind": "full", **heads}),
        Layer.model_validate({**sliding, "kv_owner": 0}),
        Layer.model_validate({"kind": "full", "kv_owner": 1, **heads}),
    )


def model_layers(model: ModelGeometry, window_left: int) -> tuple[Layer, ...]:
    """Return one layer of each geometry of ``model``, with the window of the memory in place of its own.

    Raises ``InvalidInputError`` for a model with sliding layers over a memory without a window.
    """
    found = []
    for layer in model.case_layers():
        if layer.kind == "sliding" and window_left < 0:
            allowed = "a model of full layers: this memory has no window"
            raise InvalidInputError("--model", given=f"{model.name} has sliding layers", allowed=allowed)
        window = window_left if layer.kind == "sliding" else -1
        found.append(Layer.model_validate({**layer.model_dump(), "window_left": window}))
    return tuple(found)
