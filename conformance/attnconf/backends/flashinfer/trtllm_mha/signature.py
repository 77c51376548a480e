"""Bind our keyword arguments to the signature of the installed FlashInfer."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from attnconf.errors import AttnconfError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class SignatureMismatchError(AttnconfError):
    """The installed FlashInfer's function does not take the call that this adapter makes.

    ``function`` is its name, ``parameter`` the first one that is missing or unknown, ``version`` that of FlashInfer.
    """

    def __init__(self, function: str, parameter: str, version: str, problem: str) -> None:
        """Compose the sentence."""
        self.function = function
        self.parameter = parameter
        self.version = version
        super().__init__(
            f"{function} of flashinfer {version} {problem} {parameter!r}: the trtllm_mha adapter must change"
        )


def parameters(function: Callable[..., Any]) -> frozenset[str]:
    """Return the names of the parameters that ``function`` takes."""
    return frozenset(inspect.signature(function).parameters)


def bind(function: Callable[..., Any], name: str, arguments: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return every parameter of ``function`` with its value under the call ``function(**arguments)``.

    Defaults are filled in. Raises ``SignatureMismatchError`` for an unknown argument, and for a missing one without a
    default.
    """
    declared = inspect.signature(function).parameters
    takes_any = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in declared.values())
    for argument in arguments:
        if argument not in declared and not takes_any:
            raise SignatureMismatchError(name, argument, version, "does not know the parameter")
    for parameter in declared.values():
        variadic = parameter.kind in {inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL}
        if parameter.default is inspect.Parameter.empty and not variadic and parameter.name not in arguments:
            raise SignatureMismatchError(name, parameter.name, version, "needs the parameter")
    bound = inspect.signature(function).bind(**arguments)
    bound.apply_defaults()
    return dict(bound.arguments)
