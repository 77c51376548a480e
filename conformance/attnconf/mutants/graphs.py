"""CUDA graphs (clause 16): captured values stay although the batch changes. Only a GPU can catch them."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import FULL, HYBRID, SLIDING, ask
from attnconf.mutants.source import Edit, edited

_LAUNCH = "triton.launch"

MUTANTS = (
    Mutant(
        id="graph-keeps-table",
        summary="update does not refresh the translated tables of the sliding pool",
        bug="vllm-project/vllm-ascend#8508",
        catalogue=("M31",),
        clause=Clause.CUDA_GRAPHS,
        make=edited(
            "triton",
            Edit("            kept.copy_(block_tables_for(batch, index))", "            del kept, index", _LAUNCH),
        ),
        proof=ask("decode", FULL, SLIDING, paging=HYBRID),
        needs_gpu=True,
    ),
    Mutant(
        id="graph-keeps-lengths",
        summary="the lengths are copied when the graph is captured: keys that came later are not read",
        bug="sgl-project/sglang#9675",
        catalogue=("M31",),
        clause=Clause.CUDA_GRAPHS,
        make=edited(
            "triton",
            Edit(
                "        self._batch = batch\n",
                "        self._batch = replace(batch, seq_lens=batch.seq_lens.clone())\n",
                _LAUNCH,
            ),
            Edit("from dataclasses import dataclass", "from dataclasses import dataclass, replace", _LAUNCH),
        ),
        proof=ask("decode"),
        needs_gpu=True,
    ),
)
