"""A backend that is asked in its own process for what it declares of a shape, as if it stood here."""

from __future__ import annotations

from types import NoneType
from typing import TYPE_CHECKING, TypeVar

from attnconf.backends.protocol import Unsupported, declared
from attnconf.errors import BackendUnavailableError
from attnconf.precision import NumericsProfile
from attnconf.running.processes.messages import Call

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from attnconf.backends.builds import Build
    from attnconf.backends.protocol import Backend, Promises
    from attnconf.cases.shape import KernelShape
    from attnconf.platforms import Platform
    from attnconf.running.processes.isolation import IsolatedBackend

Kind = TypeVar("Kind")


class AskedBackend:
    """What a backend declares. A method raises ``BackendUnavailableError`` if no answer comes, or none of its kind."""

    def __init__(self, isolated: IsolatedBackend) -> None:
        self._isolated = isolated

    @property
    def name(self) -> str:
        """The backend's name in receipts."""
        return self._isolated.declaration().name

    @property
    def promises(self) -> Promises:
        """What it promises."""
        return self._isolated.declaration().promises

    def supports(self, shape: KernelShape, platform: Platform) -> Unsupported | None:
        """Return why it does not support ``shape``, or None."""
        return self._answer(Call("supports", ((shape, platform),)), Unsupported, NoneType)

    def supports_each(self, shapes: Sequence[KernelShape], platform: Platform) -> list[Unsupported | None]:
        """Return for each of ``shapes`` why it does not support it, or None: one round trip for all."""
        return self._answers(Call("supports", tuple((shape, platform) for shape in shapes)), Unsupported, NoneType)

    def numerics(self, shape: KernelShape) -> NumericsProfile:
        """Return its profile for ``shape``."""
        return self._answer(Call("numerics", ((shape,),)), NumericsProfile)

    def builds(self, shapes: Iterable[KernelShape]) -> tuple[Build, ...]:
        """Return the builds for ``shapes``."""
        return self._answer(Call("builds", ((frozenset(shapes),),)), tuple)

    def is_built(self, build: Build) -> bool:
        """Return whether ``build`` is done."""
        return self._answer(Call("is_built", ((build,),)), bool)

    def _answer(self, call: Call, *kinds: type[Kind]) -> Kind:
        return self._answers(call, *kinds)[0]

    def _answers(self, call: Call, *kinds: type[Kind]) -> list[Kind]:
        answers: list[Kind] = self._isolated.call(call)
        for answer in answers:
            if not isinstance(answer, kinds):
                raise BackendUnavailableError(f"backend {self.name}: {call.method} returned {answer!r}")
        return answers


def declared_of(
    backend: AskedBackend | Backend, shapes: Sequence[KernelShape], platform: Platform
) -> dict[KernelShape, Unsupported | None]:
    """Return what ``backend`` declares about each of ``shapes``, wherever it is asked. Raises as ``declared`` does."""
    if isinstance(backend, AskedBackend):
        return dict(zip(shapes, backend.supports_each(shapes, platform), strict=True))
    return {shape: declared(backend, shape, platform) for shape in shapes}
