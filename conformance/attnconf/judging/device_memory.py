"""Memory of this machine's GPU beside that of its host: what is there, what others hold, what is given back to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from attnconf.judging.footprint import footprint
from attnconf.judging.memory import gigabytes, host_memory

if TYPE_CHECKING:
    from attnconf.cases.case import Case

_KEPT_BYTES = 2**30
"""GPU memory that torch may cache between two cases."""


def memory_held_by_others(case: Case, device: torch.device) -> str | None:
    """Return why ``case`` ran out of memory on ``device`` if other processes are the reason, else None.

    Where other processes run too, what is free besides what this one holds may be less than the case takes.
    """
    if device.type != "cuda":
        free, needed = host_memory(), footprint(case, accelerated=False).host
        what = f"{gigabytes(free)} of host memory are free, and the case takes up to {gigabytes(needed)}"
        return what if free < needed else None
    free, total = torch.cuda.mem_get_info(device)
    within_reach = free + torch.cuda.memory_reserved(device)
    needed = footprint(case, accelerated=True).device
    if within_reach >= needed:
        return None
    return (
        f"other processes hold {gigabytes(total - within_reach)} of the GPU's {gigabytes(total)}, and the case takes up"
        f" to {gigabytes(needed)}"
    )


def release_cached_memory(device: torch.device) -> None:
    """Release the GPU memory that torch caches beyond ``_KEPT_BYTES``: other processes need it, too."""
    if device.type == "cuda" and torch.cuda.memory_reserved(device) > _KEPT_BYTES:
        torch.cuda.empty_cache()
