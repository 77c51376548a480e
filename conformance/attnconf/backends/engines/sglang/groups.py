"""Group the layers of a batch into sglang models, since the layers of a case may differ more than those of a model.

A model of sglang has one window, and one shape in each KV pool: in the only one, or in the full and the sliding one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from attnconf.cases.case import Layer
    from attnconf.cases.inputs.batch import Batch, Pool

    Shape = tuple[int, int]


@dataclass
class Group:
    """The layers of one model: ``layers`` and the ``caches`` that they read are indices into the batch.

    ``window_left`` is the window of every windowed layer, -1 without one. ``shapes`` are (num_kv_heads, head_dim) of
    the layers in each pool.
    """

    layers: list[int] = field(default_factory=list)
    caches: list[int] = field(default_factory=list)
    window_left: int = -1
    shapes: dict[Pool, Shape] = field(default_factory=dict)

    def takes(self, layer: Layer, pool: Pool) -> bool:
        """Return whether ``layer``, with its keys in ``pool``, fits into this model."""
        same_window = min(layer.window_left, self.window_left) < 0 or layer.window_left == self.window_left
        return same_window and self.shapes.get(pool, _shape(layer)) == _shape(layer)

    def add(self, index: int, layer: Layer, pool: Pool, cache: int) -> None:
        """Add layer ``index`` to this model."""
        self.layers.append(index)
        if cache not in self.caches:
            self.caches.append(cache)
        self.window_left = max(self.window_left, layer.window_left)
        self.shapes[pool] = _shape(layer)


def grouped(batch: Batch, layers: Iterable[int]) -> list[Group]:
    """Return few models for ``layers`` of ``batch``: a single one for a model's own geometry in a hybrid pool."""
    groups: list[Group] = []
    for index in layers:
        inputs = batch.layers[index]
        pool = batch.caches[inputs.cache].pool
        group = next((one for one in groups if one.takes(inputs.geometry, pool)), None)
        if group is None:
            group = Group()
            groups.append(group)
        group.add(index, inputs.geometry, pool, inputs.cache)
    return groups


def _shape(layer: Layer) -> Shape:
    return layer.num_kv_heads, layer.head_dim
