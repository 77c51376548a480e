"""Measured: what judging a kind of case costs, beside its floor."""

from __future__ import annotations

from attnconf.values import Value


class Measured(Value):
    """What one kind of case costs, in seconds; ``layers`` are those that were judged.

    ``busy`` is the GPU's time in kernels and copies, None on a CPU. ``kernels``, ``answers`` and ``inputs`` are the
    terms of the floor. ``outcomes`` says how its layers ended. ``size`` is its query tokens, and ``ladder`` the name of
    the growing sizes that it belongs to, empty for none.
    """

    kind: str
    size: int
    ladder: str = ""
    model: str
    backend: str
    layers: int
    outcomes: tuple[str, ...]
    runs: int
    wall: float
    busy: float | None
    kernels: float
    answers: float
    inputs: float

    @property
    def floor(self) -> float:
        """The least time that a judge of the case needs."""
        return self.kernels + self.answers + self.inputs

    @property
    def factor(self) -> float | None:
        """Wall over floor; None where nothing was judged."""
        return self.wall / self.floor if self.layers and self.floor else None
