"""Memory: what a call writes and where, and what stays between calls (clauses 10 and 15)."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import FULL, SHARED, ask
from attnconf.mutants.source import Edit, edited

_DONE = "        return KERNEL"
_CACHE = "self.batch.caches[self.batch.layers[layer].cache]"
_LSE = "lse[rows] = row_lse"
_NAME = 'KERNEL = "torch-paged"'

SCRATCHED = (
    Edit("EvidenceKind, Promises, Unsupported\n", "EvidenceKind, Promises, Unsupported, Workspace\n"),
    Edit("return _Run(batch)", "return _Run(batch, torch.zeros(80, dtype=torch.uint8, device=batch.device))"),
    Edit(
        "    batch: Batch\n\n    def run",
        "    batch: Batch\n    memory: torch.Tensor\n\n"
        "    def workspaces(self):\n        return (Workspace(memory=self.memory, zero_bytes=16),)\n\n    def run",
    ),
)
"""A right backend: the reference with a workspace of 16 bytes of semaphores and 64 of scratch, which it never uses."""

MUTANTS = (
    Mutant(
        id="write-null-page",
        summary="dummy keys of padding are written to page 0",
        bug="1CatAI/1Cat-vLLM#280",
        clause=Clause.READ_ONLY,
        make=edited("reference", Edit(_DONE, f"        {_CACHE}.k.view(torch.uint8)[0] = 7\n{_DONE}")),
        proof=ask("decode"),
    ),
    Mutant(
        id="write-owners-cache",
        summary="a redirected layer writes dummy values into its owner's slots",
        bug="vllm-project/vllm-ascend#11791",
        catalogue=("M37",),
        clause=Clause.READ_ONLY,
        make=edited(
            "reference",
            Edit(
                _DONE,
                "        if self.batch.layers[layer].cache != layer:\n            page = "
                "int(tables[0, max(0, self.batch.kv_lens[0] - 1) // self.batch.page_size])\n"
                f"            {_CACHE}.v.view(torch.uint8)[page] = 3\n{_DONE}",
            ),
        ),
        proof=ask("decode", FULL, SHARED),
    ),
    Mutant(
        id="scale-query-in-place",
        summary="the query is scaled where it lies",
        clause=Clause.READ_ONLY,
        make=edited("reference", Edit(_DONE, f"        self.batch.layers[layer].q.mul_(0.5)\n{_DONE}")),
        proof=ask("decode"),
    ),
    Mutant(
        id="tile-dropped",
        summary="the last head of the last row is never stored",
        bug="sgl-project/sglang#25006",
        clause=Clause.READ_ONLY,
        make=edited(
            "reference",
            Edit(
                "out[rows] = row_out\n",
                "last = rows.stop == len(out)\n            out[rows, : out.shape[1] - last] = "
                "row_out[:, : out.shape[1] - last]\n",
            ),
        ),
        proof=ask("decode"),
    ),
    Mutant(
        id="lse-dropped",
        summary="the LSE of a request's last head is never stored",
        clause=Clause.READ_ONLY,
        make=edited("reference", Edit(_LSE, "lse[rows, :-1] = row_lse[:, :-1]")),
        proof=ask("decode"),
    ),
    Mutant(
        id="store-past-the-end",
        summary="the last tile of rows is stored whole",
        clause=Clause.READ_ONLY,
        make=edited(
            "reference",
            Edit(_DONE, f"        out.as_strided((1,), (1,), out.storage_offset() + out.numel()).fill_(1.0)\n{_DONE}"),
        ),
        proof=ask("decode"),
    ),
    Mutant(
        id="store-before-the-start",
        summary="a mask of -1 stores in front of the output",
        clause=Clause.READ_ONLY,
        make=edited(
            "reference",
            Edit(_DONE, f"        out.as_strided((1,), (1,), out.storage_offset() - 1).fill_(1.0)\n{_DONE}"),
        ),
        proof=ask("decode"),
    ),
    Mutant(
        id="metadata-in-static-buffer",
        summary="tables are copied to one static buffer, which the next prepared batch overwrites",
        catalogue=("M31",),
        clause=Clause.DETERMINISM,
        make=edited(
            "reference",
            Edit(_NAME, f"{_NAME}\n_STATIC = torch.zeros((64, 8192), dtype=torch.int32)"),
            Edit(
                "return _Run(batch)",
                "rows, columns = batch.block_tables.shape\n        _STATIC[:rows, :columns] = "
                "batch.block_tables\n        return _Run(replace(batch, block_tables=_STATIC[:rows, "
                ":columns]))",
            ),
            Edit("from dataclasses import dataclass", "from dataclasses import dataclass, replace"),
        ),
        proof=ask("decode", seed=1),
    ),
    Mutant(
        id="metadata-moved-at-first-run",
        summary="a batch's tables move to one static buffer when it first runs, which the next one to run overwrites",
        catalogue=("M31",),
        clause=Clause.DETERMINISM,
        make=edited(
            "reference",
            Edit(_NAME, f"{_NAME}\n_STATIC = torch.zeros((64, 8192), dtype=torch.int32)\n_MOVED = {{}}"),
            Edit(
                "tables = block_tables_for(self.batch, layer)\n",
                "tables = block_tables_for(self.batch, layer)\n        rows, columns = tables.shape\n"
                "        if (id(self), layer) not in _MOVED:\n"
                "            _MOVED[id(self), layer] = self\n            _STATIC[:rows, :columns] = tables\n"
                "        tables = _STATIC[:rows, :columns].clone()\n",
            ),
        ),
        proof=ask("decode", seed=1),
    ),
    Mutant(
        id="semaphore-left-dirty",
        summary="a counter in the workspace must be zero and is not reset: the second launch skips its merge",
        bug="flashinfer-ai/flashinfer#1444",
        catalogue=("M30",),
        clause=Clause.DETERMINISM,
        make=edited(
            "reference",
            Edit("    batch: Batch\n\n    def run", "    batch: Batch\n    arrived: list\n\n    def run"),
            Edit("return _Run(batch)", "return _Run(batch, [])"),
            Edit(
                "start = 0\n",
                "start = 0\n        merges = layer not in self.arrived\n        self.arrived.append(layer)\n",
            ),
            Edit("out[rows] = row_out", "out[rows] = row_out if merges else row_out * 0.5"),
        ),
        proof=ask("decode"),
    ),
    Mutant(
        id="semaphore-left-set",
        summary="a block counts its arrival in the workspace, and nobody counts back",
        bug="flashinfer-ai/flashinfer#3474",
        catalogue=("M30",),
        clause=Clause.DETERMINISM,
        make=edited("reference", *SCRATCHED, Edit(_DONE, f"        self.memory[4] = 3\n{_DONE}")),
        proof=ask("decode"),
    ),
    Mutant(
        id="scratch-taken-for-zero",
        summary="a partial result that no block wrote is merged: right while nobody else used the workspace",
        bug="flashinfer-ai/flashinfer#3465",
        catalogue=("M30",),
        clause=Clause.DETERMINISM,
        make=edited(
            "reference",
            *SCRATCHED,
            Edit(
                _DONE,
                "        rows = sum(self.batch.q_lens)\n"
                "        left = self.memory[16:].view(torch.float32)[-1]\n"
                f"        out[:rows] = (out[:rows].float() + left).to(out.dtype)\n{_DONE}",
            ),
        ),
        proof=ask("decode"),
    ),
    Mutant(
        id="scratch-of-widest-layer",
        summary="layers of unlike head_dim share scratch: what one leaves behind stays in the other's sums",
        bug="vllm-project/vllm#41656",
        catalogue=("M27",),
        clause=Clause.DETERMINISM,
        make=edited(
            "reference",
            Edit(_NAME, f"{_NAME}\n_SCRATCH = {{}}"),
            Edit(
                "out[rows] = row_out\n",
                "left = _SCRATCH.get('left', (layer, 0.0))\n            _SCRATCH['left'] = (layer, "
                "float(row_out.flatten()[0]))\n            out[rows] = row_out\n            "
                "out[rows.start, 0, 0] += 1e-3 * left[1] * (left[0] != layer)\n",
            ),
        ),
        proof=ask("decode", FULL, FULL.model_copy(update={"head_dim": 128})),
    ),
)
