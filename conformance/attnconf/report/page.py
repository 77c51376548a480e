"""The page: a document as one HTML file without scripts or resources from elsewhere, for a desk and for a phone."""

from __future__ import annotations

import base64
import json
import math
import re
import shlex
from functools import partial
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from attnconf.cases.geometry import unsharded
from attnconf.clauses import cite
from attnconf.escape import file_name, foreign_command, readable, shell
from attnconf.judging.units import EDGES, units_text
from attnconf.report.document import cell_name
from attnconf.report.matrix import MODES
from attnconf.report.speed_rows import scale_of
from attnconf.version import __version__
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnconf.gate.failed_case import FailedCase
    from attnconf.report.bugs import Bug
    from attnconf.report.document import Backend, Document, Site
    from attnconf.report.matrix import Row, Square
    from attnconf.report.speed_rows import SpeedReport

_LEAST_BAR = 4.0
_OPTION = "--attnconf-replay="
_SAVED = re.compile(r"[0-9a-f]{12}-.+\.json", re.DOTALL)
"""The name of a saved case."""


def render_page(document: Document, speeds: Sequence[SpeedReport] = ()) -> str:
    """Return the document as HTML, with what was timed."""
    environment = Environment(
        loader=PackageLoader("attnconf", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: readable(value) if type(value) is str else value,  # what is markup already stays so
    )
    bugs = [(site, bug) for site in document.sites for bug in site.bugs]
    environment.filters |= {"units": units_text, "cite": cite, "cell_name": cell_name, "counted": counted}
    return environment.get_template("page.html.j2").render(
        document=document,
        bugs=bugs,
        bug_of=partial(_bug_of, bugs),
        version=__version__,
        modes=MODES,
        models=_models,
        squares=_squares,
        shade=_shade,
        units_of=_units_of,
        bars=_bars,
        notes=_notes,
        features=_features,
        case_json=lambda failed: json.dumps(failed.case.to_data(), indent=1),
        case_link=_case_link,
        case_name=_case_name,
        replay=_replay,
        command=foreign_command,
        speeds=speeds,
        scale_of=scale_of,
    )


def _bug_of(bugs: Sequence[tuple[Site, Bug]], site: Site, backend: str, model: str, mode: str) -> int:
    """Return the number of the bug that a broken square of ``site`` leads to; 0 for none."""
    found = (index for index, (at, bug) in enumerate(bugs, 1) if at is site and bug.covers(backend, model, mode))
    return next(found, 0)


def _models(site: Site, backend: Backend) -> list[tuple[str, list[Row]]]:
    """Return the rows by model, without the models that this backend was not asked."""
    rows: dict[str, list[Row]] = {}
    for row in site.matrix.rows:
        rows.setdefault(row[0], []).append(row)
    return [(model, some) for model, some in rows.items() if any(any(_squares(site, backend, row)) for row in some)]


def _squares(site: Site, backend: Backend, row: Row) -> list[Square | None]:
    return [site.matrix.squares.get((row, (backend.name, mode))) for mode in MODES]


def _shade(square: Square) -> int:
    """Return how strong the colour of a square is, in percent: by its worst error, up to the bound."""
    return round(14 + 50 * min(square.worst or 0.0, 1.0))


def _units_of(square: Square) -> str:
    if square.worst is None:
        return ""
    return "\u221e" if math.isinf(square.worst) else (units_text(square.worst) if square.broken else square.units)


def _bars(backend: Backend) -> list[tuple[str, int, float]]:
    """Return the histogram's bars: the range that each stands for, its count, its height in percent."""
    most = max(backend.bins, default=0) or 1
    names = [f"{low:g} to {high:g}" for low, high in zip((0, *EDGES), EDGES, strict=False)] + [f"above {EDGES[-1]:g}"]
    heights = [max(_LEAST_BAR, 100 * count / most) if count else 0.0 for count in backend.bins]
    return list(zip(names, backend.bins, heights, strict=True))


def _notes(site: Site, backend: Backend) -> dict[str, str]:
    """Return the marks of the reasons that stand in squares of this backend, by reason."""
    reasons = dict.fromkeys(
        square.reason
        for row in site.matrix.rows
        for square in _squares(site, backend, row)
        if square is not None and square.reason and not square.executed
    )
    return {reason: _mark(index) for index, reason in enumerate(reasons)}


def _mark(index: int) -> str:
    letters = "abcdefghijklmnopqrstuvwxyz"
    return letters[index % len(letters)] * (1 + index // len(letters))


def _features(backend: Backend) -> dict[str, list[str]]:
    """Return the features whose absence would have shown, by model and layer kind."""
    found: dict[str, set[str]] = {}
    for cell in backend.cells:
        if cell.executed:
            found.setdefault(f"{unsharded(cell.model)} {cell.layer_kind}", set()).update(cell.features)
    return {name: sorted(features) for name, features in found.items()}


def _case_name(failed: FailedCase) -> str:
    """Return a name for the case's file: that under which it was saved where it was found, if it was."""
    return next(filter(None, map(_saved_name, _words(failed))), f"{failed.case.id}.json")


def _saved_name(word: str) -> str:
    """Return the file's name in a word of the command, without its folder; empty if the word names no saved case."""
    name = re.split(r"[/\\=]", word)[-1]
    return f"{file_name(name.removesuffix('.json'))}.json" if _SAVED.fullmatch(name) else ""


def _words(failed: FailedCase) -> list[str]:
    """Return the command that repeats a failure where it was found, in words; none where there is no such command."""
    return shlex.split(foreign_command(failed.replay), comments=True)


def _case_link(failed: FailedCase) -> str:
    text = json.dumps(failed.case.to_data(), indent=1) + "\n"
    return f"data:application/json;base64,{base64.b64encode(text.encode()).decode()}"


def _replay(failed: FailedCase) -> str:
    """Return the command for the file that the page carries: the one for where it was found, without its folder.

    Older receipts quote no path, so words in front of the file's name may be pieces of its folder.
    """
    words, name = _words(failed), _case_name(failed)
    saved = next((index for index, word in enumerate(words) if _saved_name(word)), None)
    begin = next((index for index, word in enumerate(words) if word == "replay" or word.startswith(_OPTION)), None)
    if saved is None or begin is None:
        return shell(["attnconf", "replay", name, "--backend", failed.backend])
    option = [f"{_OPTION}{name}"] if words[begin].startswith(_OPTION) else [words[begin], name]
    return shell([*words[:begin], *option, *words[saved + 1 :]])
