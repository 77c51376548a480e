"""The verdict of a peer's test on a backend: its comparison, under its tolerance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from attnconf.cases.shape import batch_shape

if TYPE_CHECKING:
    from attnconf.backends.protocol import Backend
    from attnconf.cases.inputs.batch import Batch
    from attnconf.platforms import Platform
    from ci.benchmarks.peerstyles.cell import Cell, Tolerance
    from ci.benchmarks.peerstyles.pose import Posed


def caught(posed: Posed, backend: Backend, platform: Platform) -> bool | None:
    """Ask ``backend``: whether the peer's test fails, or None where the backend declares that it is unsupported."""
    batch = posed.batch
    if backend.supports(batch_shape(batch, 0), platform) is not None:
        return None
    try:
        out, lse = _run(posed.cell, backend, batch)
        twin = None if posed.contiguous is None else _run(posed.cell, backend, posed.contiguous)[0]
    except Exception:  # noqa: BLE001 - whatever a backend raises fails the peer's test
        return True
    tolerance = posed.cell.tolerance
    if twin is not None:
        return bool(out.isnan().any()) or not torch.equal(out.view(torch.int16), twin.view(torch.int16))
    if tolerance.lse is not None and lse is not None and _differ(lse, posed.lse, *tolerance.lse).any():
        return True
    if posed.behind is not None:
        out, right = (_projected(value, posed.behind) for value in (out, posed.out))
        return not close(out, right, tolerance)
    return not close(out.float(), posed.out, tolerance)


def close(out: torch.Tensor, right: torch.Tensor, tolerance: Tolerance) -> bool:
    """Return whether ``out`` passes for ``right`` under a peer's rule."""
    if tolerance.either:
        wrong = ~(((out - right).abs() <= tolerance.atol) | ((out - right).abs() <= tolerance.rtol * right.abs()))
    else:
        wrong = _differ(out, right, tolerance.atol, tolerance.rtol)
    if tolerance.nan_passes:
        wrong &= ~out.isnan()
    return int(wrong.sum()) <= int(tolerance.forgiven * wrong.numel())


def _differ(out: torch.Tensor, right: torch.Tensor, atol: float, rtol: float) -> torch.Tensor:
    """Return where ``torch.testing.assert_close`` would see a mismatch: NaN is one, equal infinities are not."""
    return ~((out == right) | ((out - right).abs() <= atol + rtol * right.abs()))


def _run(cell: Cell, backend: Backend, batch: Batch) -> tuple[torch.Tensor, torch.Tensor | None]:
    q = batch.layers[0].q
    out = torch.full_like(q, cell.unwritten)
    base = backend.promises.lse
    lse = None if base is None else torch.zeros(q.shape[:2])
    backend.prepare(batch).run(0, out, lse)
    if base == "two" and lse is not None:
        lse *= math.log(2.0)
    return out, lse


def _projected(value: torch.Tensor, behind: torch.Tensor) -> torch.Tensor:
    return (value.flatten(1).to(torch.float16).float() @ behind).to(torch.float16).float()
