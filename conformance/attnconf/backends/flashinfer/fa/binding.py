"""Calls into FlashInfer, bound to the installed signature before they are made."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from attnconf.backends.flashinfer.library import version
from attnconf.errors import BackendUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def call(function: Callable[..., Any], arguments: Mapping[str, Any], extra: tuple[Any, ...] = ()) -> Any:  # noqa: ANN401 - what FlashInfer returns
    """Bind the arguments, then call. ``extra`` is passed by position, after q and the cache.

    Raises ``BackendUnavailableError`` when the installed function does not take the call.
    """
    leading = tuple(arguments[name] for name in ("q", "paged_kv_cache")) if extra else ()
    named = {name: value for name, value in arguments.items() if not extra or name not in {"q", "paged_kv_cache"}}
    try:
        inspect.signature(function).bind(*leading, *extra, **named)
    except TypeError as error:
        message = f"{function.__qualname__} of flashinfer {version()} does not take the adapter's call: {error}"
        raise BackendUnavailableError(message) from error
    return function(*leading, *extra, **named)
