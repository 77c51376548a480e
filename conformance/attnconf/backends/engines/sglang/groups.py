"""Which layers of a batch one sglang model can hold: a case is freer than a model, and what differs takes another one.

A model of sglang has one window. Its KV pool has one shape; with a sliding pool beside it, one shape in each.
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

    ``window_left`` is that of every windowed layer, -1 without one. ``shapes`` are (num_kv_heads, head_dim) of the
    layers in each pool.
    """

    layers: list[int] = field(default_factory=list)
    caches: list[int] = field(default_factory=list)
    window_left: int = -1
    shapes: dict[Pool, Shape] = field(default_factory=dict)

    def takes(self, layer: Layer, pool: Pool) -> bool:
        """Return whether ``layer``, whose keys are in ``pool``, fits this model."""
        same_window = min(layer.window_left, self.window_left) < 0 or layer.window_left == self.window_left
        return same_window and self.shapes.get(pool, _shape(layer)) == _shape(layer)

    def add(self, index: int, layer: Layer, pool: Pool, cache: int) -> None:
        """Make the layer ``index`` part of this model."""
        self.layers.append(index)
        if cache not in self.caches:
            self.caches.append(cache)
        self.window_left = max(self.window_left, layer.window_left)
        self.shapes[pool] = _shape(layer)


def grouped(batch: Batch, layers: Iterable[int]) -> list[Group]:
    """Return as few models as hold ``layers`` of ``batch``: for a model's own geometry in a hybrid pool one."""
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
