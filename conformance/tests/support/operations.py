"""Count what torch is asked to do: on a GPU the host starts one operation in some 10 us, whatever its size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch._ops import OpOverload

_VIEWS = {"_unsafe_view", "alias", "as_strided", "detach", "expand", "permute", "select", "slice", "split", "squeeze"}
_VIEWS |= {"t", "transpose", "unbind", "unsqueeze", "view"}
"""Operations that start nothing on a device."""


class Operations(TorchDispatchMode):
    """Within it, ``count`` is the number of operations so far that touch a tensor's numbers, ``views`` of others."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = self.views = 0

    def __torch_dispatch__(
        self,
        func: OpOverload[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever the operation returns
        del types
        name = func._schema.name.removeprefix("aten::")
        if name in _VIEWS:
            self.views += 1
        else:
            self.count += 1
            self.started(name)
        return func(*args, **(kwargs or {}))

    def started(self, name: str) -> None:
        """Take note of an operation that counts."""


def operations(what: Callable[[], object]) -> int:
    """Return how many operations ``what`` asks for."""
    with Operations() as found:
        what()
    return found.count
