"""One call for every release: a release's function is called with those of the known arguments that it takes."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import torch

from attnconf.backends.triton.stack import call_with_room

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def call(function: Callable[..., Any], known: Mapping[str, Any]) -> None:
    """Call ``function`` with each of its parameters that ``known`` has, by name.

    Raises ``TypeError`` that names a parameter without a default which ``known`` lacks. A GPU does not warn of NaN, so
    NumPy does not either; what asks for the compute capability is told 9.0.
    """
    parameters = inspect.signature(function).parameters.values()
    lacking = [one.name for one in parameters if one.default is one.empty and one.name not in known]
    if lacking:
        raise TypeError(f"{function.__name__} takes {', '.join(lacking)}, which the adapter does not know")
    arguments = {one.name: known[one.name] for one in parameters if one.name in known}
    capability = mock.patch.object(torch.cuda, "get_device_capability", return_value=(9, 0))
    with np.errstate(all="ignore"), capability:
        call_with_room(lambda: function(**arguments))


def takes(function: Callable[..., Any], name: str) -> bool:
    """Return whether ``function`` has a parameter ``name``."""
    return name in inspect.signature(function).parameters
