"""CUDA graphs (clause 16): captured values stay although the batch changes. Only a GPU can catch them."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import FULL, HYBRID, SLIDING, ask
from attnconf.mutants.source import Edit, edited

_LAUNCH = "triton.launch"
_BATCH = "        self._batch = batch\n"
_IMPORT = "from dataclasses import dataclass"
_UPDATE = "        for index, kept in enumerate(self._tables):\n"

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
            Edit(_BATCH, "        self._batch = replace(batch, seq_lens=batch.seq_lens.clone())\n", _LAUNCH),
            Edit(_IMPORT, f"{_IMPORT}, replace", _LAUNCH),
        ),
        proof=ask("decode"),
        needs_gpu=True,
    ),
    Mutant(
        id="graph-keeps-count",
        summary="with fewer live requests than were captured, the lengths of those behind them stay as they were",
        bug="PaddlePaddle/FastDeploy#3457",
        clause=Clause.CUDA_GRAPHS,
        make=edited(
            "triton",
            Edit(_BATCH, "        self._batch = replace(batch, seq_lens=batch.seq_lens.clone())\n", _LAUNCH),
            Edit(_IMPORT, f"{_IMPORT}, replace", _LAUNCH),
            Edit(
                _UPDATE,
                "        live = sum(1 for keys in batch.kv_lens if keys)\n"
                "        self._batch.seq_lens[:live].copy_(batch.seq_lens[:live])\n"
                f"{_UPDATE}",
                _LAUNCH,
            ),
        ),
        proof=ask("decode"),
        needs_gpu=True,
    ),
    Mutant(
        id="graph-keeps-query-lengths",
        summary="the query starts are copied when the graph is captured: a step with fewer drafts reads others' rows",
        bug="sgl-project/sglang#21987",
        clause=Clause.CUDA_GRAPHS,
        make=edited(
            "triton",
            Edit(_BATCH, "        self._batch = replace(batch, qo_indptr=batch.qo_indptr.clone())\n", _LAUNCH),
            Edit(_IMPORT, f"{_IMPORT}, replace", _LAUNCH),
        ),
        proof=ask("verify"),
        needs_gpu=True,
    ),
)
