"""The page: a document as one HTML file without scripts or resources from elsewhere, for a desk and for a phone."""

from __future__ import annotations

import base64
import json
import math
import re
import shlex
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined

from attnconf.cases.geometry import unsharded
from attnconf.clauses import cite
from attnconf.judging.units import EDGES, units_text
from attnconf.report.document import cell_name
from attnconf.report.escape import readable
from attnconf.report.matrix import MODES
from attnconf.version import __version__

if TYPE_CHECKING:
    from attnconf.gate.failed_case import FailedCase
    from attnconf.report.document import Backend, Document, Site
    from attnconf.report.matrix import Row, Square

_LEAST_BAR = 4.0
_SAVED = re.compile(r"(?<=attnconf[ -]replay[ =])(?:\S.*[/\\])?(?P<name>[0-9a-f]{12}-[\w.-]+\.json)(?= |$)")
"""A saved case in a command that replays it, with its folder."""


def render_page(document: Document) -> str:
    """Return the document as HTML."""
    environment = Environment(
        loader=PackageLoader("attnconf", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: readable(value) if type(value) is str else value,  # what is markup already stays so
    )
    environment.filters |= {"units": units_text, "cite": cite, "cell_name": cell_name}
    return environment.get_template("page.html.j2").render(
        document=document,
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
    )


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
        if square is not None and square.reason
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
    saved = _SAVED.search(failed.replay)
    return saved["name"] if saved else f"{failed.case.id}.json"


def _case_link(failed: FailedCase) -> str:
    text = json.dumps(failed.case.to_data(), indent=1) + "\n"
    return f"data:application/json;base64,{base64.b64encode(text.encode()).decode()}"


def _replay(failed: FailedCase) -> str:
    """Return the command for the file that the page carries: the one for where it was found, without its folder."""
    if _SAVED.search(failed.replay):
        return _SAVED.sub(r"\g<name>", failed.replay, count=1)
    backend = failed.backend.removesuffix("[contract]")
    return f"attnconf replay {_case_name(failed)} --backend {shlex.quote(backend)}"
