"""The argument translation of trtllm_mha: window, scales, tables, lengths and layout of the call."""

from __future__ import annotations

from attnconf.cases.case import Paging
from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import FULL, SCALED, SHARED, SINKS, SLIDING, quantised, served
from attnconf.mutants.source import Edit, edited

_WINDOW = '"window_left": geometry.window_left,'
_HYBRID = Paging(page_size=16, layout="HND", hybrid=True)

MUTANTS = (
    Mutant(
        id="call-window-inclusive",
        summary="window_left carries a sliding_window of W unchanged",
        bug="NVIDIA/TensorRT-LLM#5564",
        catalogue=("M02",),
        clause=Clause.WINDOW,
        make=edited("trtllm_mha", Edit(_WINDOW, '"window_left": geometry.window_left + (geometry.window_left >= 0),')),
        proof=served("decode", SLIDING),
    ),
    Mutant(
        id="call-window-not-in-prefill",
        summary="the prefill call has no window",
        bug="sgl-project/sglang#22679",
        clause=Clause.WINDOW,
        make=edited(
            "trtllm_mha",
            Edit(
                "        arguments |= _ragged(batch, metadata)\n",
                '        arguments |= _ragged(batch, metadata)\n        arguments["window_left"] = -1\n',
            ),
        ),
        proof=served("extend", SLIDING),
    ),
    Mutant(
        id="call-full-pool-table",
        summary="sliding layers get the full pool's page table",
        bug="sgl-project/sglang#18970",
        catalogue=("M15",),
        clause=Clause.HYBRID_POOLS,
        make=edited(
            "trtllm_mha",
            Edit('"block_tables": metadata.tables[layer],', '"block_tables": batch.block_tables % len(cache.k),'),
        ),
        proof=served("decode", SLIDING, paging=_HYBRID),
    ),
    Mutant(
        id="call-table-of-layer-zero",
        summary="the metadata of the first layer serves all",
        bug="sgl-project/sglang#26531",
        catalogue=("M15",),
        clause=Clause.HYBRID_POOLS,
        make=edited(
            "trtllm_mha",
            Edit('"block_tables": metadata.tables[layer],', '"block_tables": metadata.tables[0] % len(cache.k),'),
        ),
        proof=served("decode", FULL, SLIDING, paging=_HYBRID),
    ),
    Mutant(
        id="call-k-scale-dropped",
        summary="bmm1_scale is sm_scale alone",
        bug="sgl-project/sglang#28144",
        catalogue=("M33",),
        clause=Clause.QUANTISED,
        make=edited("trtllm_mha", Edit("geometry.sm_scale * stored.k_scale", "geometry.sm_scale")),
        proof=quantised("decode", paging=Paging(page_size=16)),
    ),
    Mutant(
        id="call-v-scale-dropped",
        summary="bmm2_scale is 1",
        bug="sgl-project/sglang#26518",
        catalogue=("M33",),
        clause=Clause.QUANTISED,
        make=edited("trtllm_mha", Edit('"bmm2_scale": stored.v_scale', '"bmm2_scale": 1.0')),
        proof=quantised("decode", paging=Paging(page_size=16)),
    ),
    Mutant(
        id="call-own-scales",
        summary="a redirected layer passes its own scales",
        bug="vllm-project/vllm#48666",
        catalogue=("M37",),
        clause=Clause.KV_SHARING,
        make=edited("trtllm_mha", Edit("stored = batch.layers[inputs.cache].geometry", "stored = geometry")),
        proof=quantised(
            "decode", SCALED, SHARED.model_copy(update={"k_scale": 0.25, "v_scale": 2.0}), paging=Paging(page_size=16)
        ),
    ),
    Mutant(
        id="call-own-cache",
        summary="a redirected layer passes its own cache",
        bug="vllm-project/vllm#43185",
        catalogue=("M37",),
        clause=Clause.KV_SHARING,
        make=edited(
            "trtllm_mha",
            Edit(
                "    cache = batch.caches[inputs.cache]\n    arguments",
                "    cache = batch.caches[layer]\n    arguments",
            ),
        ),
        proof=served("decode", FULL, SHARED),
    ),
    Mutant(
        id="call-default-scale",
        summary="1/sqrt(head_dim) is passed where a model has sm_scale 1",
        bug="flashinfer-ai/flashinfer#4014",
        catalogue=("M35",),
        clause=Clause.SCORES,
        make=edited(
            "trtllm_mha", Edit("geometry.sm_scale * stored.k_scale", "geometry.head_dim**-0.5 * stored.k_scale")
        ),
        proof=served("decode"),
    ),
    Mutant(
        id="call-sinks-dropped",
        summary="sinks are passed to the decode kernel only",
        clause=Clause.SCORES,
        make=edited(
            "trtllm_mha",
            Edit('"sinks": inputs.sinks,', '"sinks": inputs.sinks if kernel == "trtllm-gen-decode" else None,'),
        ),
        proof=served("extend", SINKS),
    ),
    Mutant(
        id="call-lse-base",
        summary="the call's LSE is in base two, and declared natural",
        bug="flashinfer-ai/flashinfer#4485",
        catalogue=("M28",),
        clause=Clause.SCORES,
        make=edited(
            "trtllm_mha",
            Edit(
                'lse="two" if has_lse else None)\n        if',
                'lse="natural" if has_lse else None)\n        if',
                "flashinfer.trtllm_mha.backend",
            ),
        ),
        proof=served("decode"),
    ),
    Mutant(
        id="call-cumulative-tokens",
        summary="the cumulative lengths of the keys are those of the queries",
        clause=Clause.REFUSAL,
        make=edited(
            "trtllm_mha",
            Edit(
                "cum_seq_lens_kv=torch.cat([zero, batch.seq_lens.cumsum(0).to(torch.int32)])",
                "cum_seq_lens_kv=batch.qo_indptr",
            ),
        ),
        proof=served("extend"),
    ),
    Mutant(
        id="call-cap-ignored",
        summary="a soft cap that the kernel does not have is left out, and nothing is refused",
        bug="sgl-project/sgl-kernel-xpu#491",
        clause=Clause.REFUSAL,
        make=edited(
            "trtllm_mha",
            Edit(
                "if refusal is not None:",
                'if refusal is not None and "soft cap" not in refusal:',
                "flashinfer.trtllm_mha.backend",
            ),
        ),
        proof=served("decode", FULL.model_copy(update={"logits_soft_cap": 20.0})),
    ),
    Mutant(
        id="call-verify-by-prefill",
        summary="several query tokens a request are served by the prefill kernel, and nobody is told",
        clause=Clause.REFUSAL,
        make=edited(
            "trtllm_mha",
            Edit(
                "kernel = family(batch.mode, self.machine)",
                'kernel = family("extend" if batch.mode == "verify" else batch.mode, self.machine)',
                "flashinfer.trtllm_mha.backend",
            ),
        ),
        proof=served("verify"),
    ),
)
