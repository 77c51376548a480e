"""The result of a race as a Markdown page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnconf.clauses import cite

if TYPE_CHECKING:
    from collections.abc import Callable

LABELS = {
    "flashinfer": "FlashInfer's style",
    "vllm": "vLLM's style",
    "sglang": "sglang's style",
    "tensorrt_llm": "TensorRT-LLM's style",
    "smoke": "attnconf, smoke",
    "gate": "attnconf, gate",
}
OWN = ("smoke", "gate")

_COMMAND = """\
python -m ci.benchmarks.peers --jobs 2 --json ci/benchmarks/peers.json \\
    --page ci/benchmarks/PEERS.md --picture ci/benchmarks/peers.png"""

_STYLES = """
## What a side is

Each side puts its own questions to the same known-wrong backends, one at a time, until one shows a fault. A peer's
questions are cells of its test grids, drawn by a seed: every test of a peer has the same chance, however many cells it
has. Inputs, page tables, what lies in dead slots, and the comparison are the peer's:

| side | inputs | page tables | dead slots | comparison |
|---|---|---|---|---|
| FlashInfer | normal noise; once zero Q and K over coded V | a permutation, or in order | noise, zeros, once NaN | \
atol and rtol 1e-3 to 1e-1, in some tests 0.005 % or 2 % of elements forgiven or NaN accepted; once the bits of a \
contiguous run |
| vLLM | normal noise | drawn with replacement, or a permutation | noise or zeros | atol and rtol 1e-2, 6e-2 for fp8 |
| sglang | noise behind linear layers; noise around 0.1 | in order, or a permutation | zeros or noise | 3e-2 behind \
another linear layer; 1e-3 to 3e-2 |
| TensorRT-LLM | normal noise | in order | zeros | atol 1e-2, 3e-2 for bf16, 0.43 for fp8 |
| attnconf | witnesses | drawn, hostile | drawn poison | an error bound derived from the case |

Every tolerance, with its source, is in [`tolerances.py`](peerstyles/tolerances.py); the grids are in the module of each
peer beside it. attnconf's cases are those of the profile, with the checks that the suite gives each, in the order in
which `attnconf mutants` asks them: first those that bring most pairs of traits together (mode, dtypes, page size, group
size, window, soft cap, and so on) for what they cost. That order knows nothing of the mutants.

A mutant counts as caught when a test fails in any way, whichever clause it breaks. CPU seconds are those of inputs,
right answers, run and comparison, as if the mutant were alone; attnconf's drawing and ordering of cases is charged,
too. What it does for its reports is not: to explain a failure, and to count which features mattered. A case of attnconf
runs several layers and several checks, so it takes longer than a peer's one call.

## What this does not say

- The styles run on a CPU, so they are cut: at most 4 requests and 2 KV heads (group sizes are kept), and lengths are
  halved until a case has 400 million products of q and k; where that would undo a window, a case is drawn anew.
  Shorter lengths favour random inputs.
- What attnconf has no word for is left out of the peers' grids: fp8 queries, nvfp4, RoPE inside the kernel, masks that
  are not causal, MLA. So are their tests of metadata, dispatch, CUDA graphs and engines, which catch other faults.
- The mutants are attnconf's own, most of them distilled from bugs that were filed of real backends. These tests of
  peers ask one layer at a time, so faults between layers (hybrid pools, shared KV) cannot show; they count here.
- CPU seconds of vLLM's style are mostly those of its pool of 2,048 noisy pages, which cost a GPU nothing: compare its
  cases.
- Sides share a seed and no case. Another seed moves counts by a few mutants.
"""


def caught(result: dict[str, Any], side: str, *, by: str = "") -> set[str]:
    """Return the mutants that ``side`` caught within the equal share of ``by`` (cases, seconds), or at all."""
    within: dict[str, Callable[[list[float]], bool]] = {
        "": lambda _: True,
        "cases": lambda found: found[0] <= result["cases"],
        "seconds": lambda found: found[1] <= result["seconds"],
    }
    found = {mutant["id"]: mutant["found"][side] for mutant in result["mutants"]}
    return {name for name, value in found.items() if value is not None and within[by](value)}


def page(result: dict[str, Any]) -> str:
    """Return the page of ``result``."""
    total = len(result["mutants"])
    share = f"{result['cases']} cases or {_seconds(result)} each, seed {result['seed']}"
    versions = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    parts = [
        "# Peers' ways of testing on the same mutants",
        "<!-- written by ci/benchmarks/peers.py; tests hold it to the result beside it -->",
        f"{total} known-wrong backends, {share}. {result['date']}, {result['machine']}; {versions}.",
        "![Mutants caught by cases and by CPU seconds](peers.png)",
        _table(
            [
                "",
                f"caught in {result['cases']} cases",
                f"caught in {_seconds(result)}",
                "CPU seconds a case",
                "right backends",
            ],
            [
                [
                    label,
                    f"{len(caught(result, side, by='cases'))} of {total}",
                    f"{len(caught(result, side, by='seconds'))} of {total}",
                    _a_case(result, side),
                    ", ".join(f"{name} found wrong" for name in result["false_alarms"][side]) or "pass",
                ]
                for side, label in LABELS.items()
            ],
        ),
        _whole(result),
        "## What a peer catches and attnconf does not in the same share",
        *(_missed(result, by) for by in ("cases", "seconds")),
        f"## By clause, in {result['cases']} cases",
        _clauses(result),
        _STYLES.strip(),
        "## Mutants that were not asked",
        *(_left_out(result, reason) for reason in sorted(set(result["left_out"].values()))),
        "## Every mutant",
        "Cases to the first fault.",
        _table(
            ["mutant", "clause", *LABELS.values(), "what it does wrong"],
            [
                [
                    f"`{mutant['id']}`",
                    str(mutant["clause"]),
                    *(_cases(mutant, side) for side in LABELS),
                    mutant["summary"],
                ]
                for mutant in result["mutants"]
            ],
        ),
        "## Run it",
        f"```shell\n{_COMMAND}\n```",
    ]
    return "\n\n".join(parts) + "\n"


def _whole(result: dict[str, Any]) -> str:
    total = len(result["mutants"])
    said = [f"{len(caught(result, side))} of {total} in all {result['totals'][side]} cases of {side}" for side in OWN]
    return f"To its end, an attnconf profile catches {' and '.join(said)}."


def _missed(result: dict[str, Any], by: str) -> str:
    """Return the mutants that a peer catches within its share and a profile does not within the same."""
    own = {side: caught(result, side, by=by) for side in OWN}
    peers = {side: caught(result, side, by=by) for side in LABELS if side not in OWN}
    rows = []
    for mutant in result["mutants"]:
        name = mutant["id"]
        by_whom = [LABELS[peer] for peer, names in peers.items() if name in names]
        if by_whom and not all(name in names for names in own.values()):
            rows.append([f"`{name}`", ", ".join(by_whom), *(_cost(mutant, side) for side in OWN)])
    share = f"{result['cases']} cases" if by == "cases" else _seconds(result)
    if not rows:
        return f"In {share}: none."
    return f"In {share}, {len(rows)}:\n\n" + _table(["mutant", "caught by", *(LABELS[side] for side in OWN)], rows)


def _cost(mutant: dict[str, Any], side: str) -> str:
    found = mutant["found"][side]
    return "not at all" if found is None else f"case {found[0]:g}, {found[1]:.1f} s"


def _a_case(result: dict[str, Any], side: str) -> str:
    """Return the mean CPU seconds of a case, over the cases up to each fault."""
    found = [mutant["found"][side] for mutant in result["mutants"] if mutant["found"][side] is not None]
    cases = sum(cases for cases, _ in found)
    return f"{sum(seconds for _, seconds in found) / cases:.2f}" if cases else ""


def _seconds(result: dict[str, Any]) -> str:
    return f"{result['seconds']:g} CPU {'second' if result['seconds'] == 1 else 'seconds'}"


def _clauses(result: dict[str, Any]) -> str:
    clauses = sorted({mutant["clause"] for mutant in result["mutants"]})
    by_side = {side: caught(result, side, by="cases") for side in LABELS}
    rows = []
    for clause in clauses:
        names = {mutant["id"] for mutant in result["mutants"] if mutant["clause"] == clause}
        counts = [str(len(names & by_side[side])) for side in LABELS]
        rows.append([cite(clause).removeprefix("clause "), str(len(names)), *counts])
    return _table(["clause", "mutants", *LABELS.values()], rows)


def _left_out(result: dict[str, Any], reason: str) -> str:
    names = [f"`{name}`" for name, why in result["left_out"].items() if why == reason]
    return f"- {reason[0].upper()}{reason[1:]}: {', '.join(names)}."


def _cases(mutant: dict[str, Any], side: str) -> str:
    found = mutant["found"][side]
    return "" if found is None else str(found[0])


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines)
