"""The support page: receipts as Markdown, a section for each machine and in it a table for each backend."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, get_args

from attnconf.cases.case import Mode
from attnconf.cases.dtypes import FP8
from attnconf.cases.geometry import unsharded
from attnconf.cases.models import FREE_MODEL
from attnconf.escape import markdown, markdown_link
from attnconf.gate.cells import merge_cells
from attnconf.gate.evidence import providers_in
from attnconf.judging.result import Outcome
from attnconf.judging.units import units_column
from attnconf.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from attnconf.gate.cells import Cell
    from attnconf.gate.provider import Provider
    from attnconf.gate.receipt import PlatformRecord, Receipt

_INTRODUCTION = """\
# What has been proven where

Written by `attnconf matrix` from the receipts that each section names. Do not edit this page; run the command again.

A row is a model and a kind of its layers (`shared`: it reads another layer's KV cache; `free`: random shapes). A cell
counts layers of cases in one mode: those judged, with the worst error in units of the bound (a right kernel is below
1), over the dtypes of the KV cache. `by contract`: the adapter's calls were judged, and no kernel. `no feature
mattered`: no mistake would have shown, so it is no evidence. `unsupported`: the backend declares it. Raised numbers
name the reasons, below the table, of layers that were not judged. A dash: nothing was asked. `features` are those whose
absence would have moved an answer of the row by ten times the bound; what every row has stands above the table.
"""
_NOTHING = "-"
_ENDS = {0: "green", 1: "red", 2: "interrupted", 10: "not met"}
"""How a run ended, by pytest's exit status or the plugin's."""
_SHORT = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "float32": "fp32",
    "float8_e4m3fn": "fp8",
    "float8_e5m2": "e5m2",
    "nvfp4": "nvfp4",
}
_BROKEN = (Outcome.FAILED, Outcome.REFUSED, Outcome.CRASHED, Outcome.OOM)


def support_page(receipts: Sequence[tuple[str, Receipt]]) -> str:
    """Return the page; a receipt comes with the path by which the page links it. Their order does not matter."""
    machines: dict[str, list[tuple[str, Receipt]]] = defaultdict(list)
    for path, receipt in sorted(receipts, key=lambda item: (item[1].started, item[0])):
        machines[_machine(receipt.platform)].append((path, receipt))
    sections = [_INTRODUCTION]
    for machine, runs in sorted(machines.items()):
        sections += [machine, _runs(runs)]
        cells: list[Cell] = []
        came_without: dict[str, dict[str, None]] = defaultdict(dict)
        for _, receipt in runs:
            cells = merge_cells(cells, receipt.cells)
            for name, words in receipt.spared.items():
                came_without[name] |= dict.fromkeys(words)
        providers = providers_in(receipt for _, receipt in runs)
        sections += [_listed(runs)] if any(receipt.listed for _, receipt in runs) else []
        for name in _backends(cells):
            own = [cell for cell in cells if cell.shown_backend == name]
            sections.append(_backend(name, own, came_without, providers.get(own[0].backend, ())))
    return "\n".join(sections)


def _machine(platform: PlatformRecord) -> str:
    name = platform.machine if platform.sm or platform.simulated else "No GPU"
    versions = {
        "CUDA": platform.cuda,
        "driver": platform.driver,
        "torch": platform.torch,
        "triton": platform.triton,
        "flashinfer": platform.flashinfer,
        "flashinfer-cubin": platform.flashinfer_cubin,
        "Python": platform.python,
    }
    stack = ", ".join(f"{what} {version}" for what, version in versions.items() if version)
    return f"## {markdown(name)}\n\n{markdown(stack)}\n"


def _runs(runs: Iterable[tuple[str, Receipt]]) -> str:
    rows = [
        (
            markdown_link(path.rsplit("/", 1)[-1], path),
            markdown(receipt.started[:10]),
            markdown(receipt.profile),
            str(receipt.seed),
            markdown(receipt.attnconf),
            _commit(receipt.git_sha),
            _ended(receipt),
        )
        for path, receipt in runs
    ]
    return _table(("receipt", "date", "profile", "seed", "attnconf", "commit", "ended"), rows)


def _listed(runs: Iterable[tuple[str, Receipt]]) -> str:
    """Return what FlashInfer's list says, below the name of no backend that ran: kernels exist, and prove nothing."""
    rows = dict.fromkeys(
        (
            markdown(f"{one.backend} on SM {one.sm}, FlashInfer {one.flashinfer}"),
            f"{markdown(one.model)}<br>{one.layer_kind}",
            one.mode,
            f"{_SHORT[one.q_dtype]}/{_SHORT[one.kv_dtype]}" + (f" to {_SHORT[one.out_dtype]}" if one.out_dtype else ""),
            f"{one.kernels} listed" if one.kernels else f"none: {markdown(one.missing)}",
        )
        for _, receipt in runs
        for one in receipt.listed
    )
    table = _table(("backend", "layers", "mode", "Q/KV", "kernels that exist"), list(rows))
    said = "Kernels that FlashInfer's list has and its selector can pick; none of these was run."
    return f"### Listed, not run\n\n{said}\n\n{table}"


def _commit(sha: str | None) -> str:
    if sha is None:
        return _NOTHING
    return f"`{sha[:12]}`" if sha[:12].isalnum() else markdown(sha[:12])


def _ended(receipt: Receipt) -> str:
    """Return how the run ended, in words: what it proves is proven however it ended, and the rest was not asked."""
    if receipt.exit_status is None:
        return _NOTHING
    return _ENDS.get(receipt.exit_status, f"red, status {receipt.exit_status}")


def _backends(cells: Iterable[Cell]) -> list[str]:
    """Return the backends by name, those that nothing was judged of behind the others."""
    judged: dict[str, int] = defaultdict(int)
    for cell in cells:
        judged[cell.shown_backend] += cell.executed + cell.broken
    return sorted(judged, key=lambda name: (not judged[name], name))


def _backend(name: str, cells: list[Cell], spared: Mapping[str, Iterable[str]], providers: Sequence[Provider]) -> str:
    executed, broken = sum(cell.executed for cell in cells), sum(cell.broken for cell in cells)
    judged = f"{counted(executed, 'layer')} judged, {broken:,} broken"
    if worst := units_column(_worst(cells)):
        judged += f", worst error {worst}"
    if came_without := spared.get(cells[0].backend, ()):
        without = "; ".join(map(markdown, came_without))
        judged += f". Drawn cases came without {without}, which it does not promise to bear"
    if providers:
        judged += f". Provided by {markdown(' and by '.join(one.text for one in providers))}"
    grouped: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in cells:
        grouped[unsharded(cell.model), cell.layer_kind].append(cell)
    features = {row: _features(members) for row, members in grouped.items() if any(c.executed for c in members)}
    common = set.intersection(*features.values()) if features else set()
    notes: dict[str, int] = {}
    rows = [
        (
            f"{markdown(model)}<br>{kind}",
            *(_cell([cell for cell in members if cell.mode == mode], notes) for mode in get_args(Mode)),
            _other_features(features.get((model, kind)), common),
        )
        for (model, kind), members in sorted(grouped.items(), key=lambda item: (item[0][0] == FREE_MODEL, item[0]))
    ]
    above = f"### {markdown(name)}\n\n{judged}."
    if common:
        above += f" Features of every row that was judged: {', '.join(map(markdown, sorted(common)))}."
    table = _table(("model, layers", *get_args(Mode), "features"), rows)
    listed = "".join(f"{number}. {markdown(reason)}\n" for reason, number in notes.items())
    return f"{above}\n\n{table}" + (f"\n{listed}" if listed else "")


def _cell(cells: Sequence[Cell], notes: dict[str, int]) -> str:
    """Return what a cell says; reasons of what was not judged become ``notes``, numbered as they come."""
    counts = {outcome: sum(getattr(cell, outcome.value) for cell in cells) for outcome in Outcome}
    counts = {outcome: count for outcome, count in counts.items() if count}
    if not counts:
        return _NOTHING
    parts = [f"**{counts[outcome]} {outcome.value}**" for outcome in _BROKEN if outcome in counts]
    parts += [f"{counts[Outcome.PASSED]} passed"] if Outcome.PASSED in counts else []
    parts += [f"{counts[Outcome.CONTRACT_ONLY]} by contract"] if Outcome.CONTRACT_ONLY in counts else []
    if not parts:
        parts = [
            outcome.value.replace("_", " ") for outcome in (Outcome.NOT_RUN, Outcome.UNSUPPORTED) if outcome in counts
        ]
    if any(cell.executed for cell in cells) and all(cell.is_vacuous for cell in cells if cell.executed):
        parts.append("no feature mattered")
    if worst := units_column(_worst(cells)):
        parts.append(worst)
    reasons = sorted({reason for cell in cells for reason in cell.reasons})
    numbers = [str(notes.setdefault(reason, len(notes) + 1)) for reason in reasons]
    text = ", ".join(parts) + (f" <sup>{','.join(numbers)}</sup>" if numbers else "")
    dtypes = sorted({_stored(cell) for cell in cells if cell.executed})
    return (text + (f"<br>{' '.join(dtypes)}" if dtypes else "")).replace(" ", "&nbsp;")


def _stored(cell: Cell) -> str:
    """Return the dtype of keys and values, with those of query and answer where these are of 8 bits, too."""
    dtypes = cell.dtypes
    query = f" under {_SHORT[dtypes.q]}" if dtypes.q == FP8 else ""
    return f"{_SHORT[dtypes.kv]}{query}" + (f" to {_SHORT[dtypes.out]}" if dtypes.out == FP8 else "")


def _worst(cells: Iterable[Cell]) -> float | None:
    return max((cell.worst_units for cell in cells if cell.worst_units is not None), default=None)


def _features(cells: Iterable[Cell]) -> set[str]:
    return {feature for cell in cells for feature in cell.features}


def _other_features(found: set[str] | None, common: set[str]) -> str:
    """Return the features of a row beyond the ``common`` ones; ``found`` is None where nothing was judged."""
    if found is None:
        return _NOTHING
    return ", ".join(map(markdown, sorted(found - common))) or (_NOTHING if found else "none")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
