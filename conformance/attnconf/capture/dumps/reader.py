"""Reader: a folder of dumps, one after the other in the order in which they were called."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from attnconf.capture.call import UnsayableError
from attnconf.capture.dumps.calls import FUNCTIONS, WRAPPERS, wrapper_call
from attnconf.capture.dumps.dump import function_of, is_dump, read_dump
from attnconf.errors import InvalidInputError, from_validation_error

if TYPE_CHECKING:
    from pathlib import Path

    from attnconf.capture.call import LayerCall
    from attnconf.capture.dumps.dump import Dump
    from attnconf.capture.gathering import Gathering

_NAME = re.compile(r"(?P<time>[\d_]+)_pid(?P<process>\d+)_(?P<function>.+)_call(?P<call>\d+)\Z")
_DEFAULT_LAYOUT = "NHD"


@dataclass
class Reader:
    """Gives the calls of dumps to ``gathering``, each as a step of its own.

    ``refused`` are sentences about damaged dumps, with their files; ``others`` counts dumps of functions that are no
    attention over pages, by their names.
    """

    gathering: Gathering
    dumps: int = 0
    refused: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    _plans: dict[tuple[int, int | None], Dump] = field(default_factory=dict, init=False)
    _layouts: dict[tuple[int, int | None], str] = field(default_factory=dict, init=False)

    def read(self, root: Path) -> None:
        """Read every dump below ``root``. Raises ``InvalidInputError`` for a folder without one."""
        if not root.is_dir():
            raise InvalidInputError(str(root), given="no folder", allowed="what FLASHINFER_DUMP_DIR named")
        folders = sorted(filter(is_dump, (root, *root.iterdir())), key=_place)
        if not folders:
            given, allowed = "it has no dump", "what FLASHINFER_DUMP_DIR named, at FLASHINFER_LOGLEVEL=10"
            raise InvalidInputError(str(root), given=given, allowed=allowed)
        for number, folder in enumerate(folders):
            self.dumps += 1
            try:
                self._one(folder, number)
            except InvalidInputError as error:
                self.refused.append(str(error))

    def _one(self, folder: Path, number: int) -> None:
        function = function_of(folder)
        wrapper, _, method = function.partition(".")
        if function in FUNCTIONS:
            dump = read_dump(folder)
            self._see(number, dump, partial(FUNCTIONS[function], dump))
        elif wrapper.removeprefix("CUDAGraph") in WRAPPERS and method in {"__init__", "plan", "run"}:
            self._wrapper(read_dump(folder), method, number)
        else:
            self.others[function] += 1

    def _wrapper(self, dump: Dump, method: str, number: int) -> None:
        key = (dump.process, dump.owner)
        if method == "__init__":
            self._layouts[key] = str(dump.get("kv_layout") or _DEFAULT_LAYOUT)
        elif method == "plan":
            self._plans[key] = dump
        elif key not in self._plans:
            given, allowed = "a run whose plan was not dumped", "a plan before it"
            raise InvalidInputError(str(dump.folder), given=given, allowed=allowed)
        else:
            layout = self._layouts.get(key, _DEFAULT_LAYOUT)
            self._see(number, dump, partial(wrapper_call, self._plans[key], dump, layout))

    def _see(self, number: int, dump: Dump, call: partial[LayerCall]) -> None:
        try:
            found = call()
        except UnsayableError as error:
            self.gathering.left_out[str(error)] += 1
            return
        except InvalidInputError:
            raise
        except (ValueError, TypeError, IndexError, KeyError) as error:
            raise _damaged(dump, error) from None
        self.gathering.see(number, "0", lambda: found)


def _damaged(dump: Dump, error: Exception) -> InvalidInputError:
    from pydantic import ValidationError

    if isinstance(error, ValidationError):
        return from_validation_error(error, str(dump.folder))
    said = f"its arguments do not fit together: {type(error).__name__}: {error}"
    return InvalidInputError(str(dump.folder), given=said, allowed=f"a call of {dump.function}")


def _place(folder: Path) -> tuple[str, str, int]:
    """Return what orders dumps as their calls came: time, process and number."""
    found = _NAME.search(folder.name)
    return (found["time"], found["process"], int(found["call"])) if found else (folder.name, "", 0)
