"""8-bit keys and values, and layers that read another layer's KV (clauses 1, 9 and 18)."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import FULL, SCALED, SHARED, SLIDING, ask, quantised
from attnconf.mutants.source import Edit, edited

_SCALE = "(geometry.sm_scale * self._owner(layer).k_scale)"
_OUT = "p, v.float())"


MUTANTS = (
    Mutant(
        id="k-scale-dropped",
        summary="k_scale is left out of the scores",
        bug="sgl-project/sglang#28144",
        catalogue=("M33",),
        clause=Clause.QUANTISED,
        make=edited("reference", Edit(_SCALE, "geometry.sm_scale")),
        proof=quantised("decode"),
    ),
    Mutant(
        id="v-scale-dropped-in-prefill",
        summary="v_scale is left out where requests bring several tokens",
        bug="flashinfer-ai/flashinfer#1416",
        catalogue=("M33",),
        clause=Clause.QUANTISED,
        make=edited(
            "reference", Edit("self._owner(layer).v_scale", "(self._owner(layer).v_scale if q_len == 1 else 1.0)")
        ),
        proof=quantised("extend"),
    ),
    Mutant(
        id="scales-swapped",
        summary="k_scale and v_scale change places",
        bug="flashinfer-ai/flashinfer#1254",
        catalogue=("M33",),
        clause=Clause.QUANTISED,
        make=edited(
            "reference",
            Edit("self._owner(layer).k_scale", "self._owner(layer).v_scale"),
            Edit("* self._owner(layer).v_scale\n", "* self._owner(layer).k_scale\n"),
        ),
        proof=quantised("decode"),
    ),
    Mutant(
        id="v-scale-squared",
        summary="v_scale is applied when values are loaded, and again to the output",
        bug="vllm-project/vllm#48016",
        catalogue=("M33",),
        clause=Clause.QUANTISED,
        make=edited("reference", Edit(_OUT, "p, v.float() * self._owner(layer).v_scale)")),
        proof=quantised("decode"),
    ),
    Mutant(
        id="scales-of-cached-part-only",
        summary="the new tokens are read without v_scale, as if they had not been quantised",
        bug="sgl-project/sglang#18882",
        catalogue=("M33",),
        clause=Clause.QUANTISED,
        make=edited(
            "reference",
            Edit(
                _OUT,
                "p, v.float() / torch.where(torch.arange(first_key, kv_len) < kv_len - q_len, 1.0, "
                "self._owner(layer).v_scale)[:, None, None])",
            ),
        ),
        proof=quantised("extend"),
    ),
    Mutant(
        id="k-scale-of-first-layer",
        summary="every layer takes the first layer's k_scale",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit("self._owner(layer).k_scale", "self.batch.layers[0].geometry.k_scale")),
        proof=quantised("decode", SCALED, SCALED.model_copy(update={"k_scale": 2.0})),
    ),
    Mutant(
        id="shared-kv-own-scales",
        summary="a redirected layer reads its owner's bytes with its own scales",
        bug="vllm-project/vllm#48666",
        catalogue=("M37",),
        clause=Clause.KV_SHARING,
        make=edited(
            "reference",
            Edit("self.batch.layers[self.batch.layers[layer].cache].geometry", "self.batch.layers[layer].geometry"),
        ),
        proof=quantised("decode", SCALED, SHARED.model_copy(update={"k_scale": 0.25, "v_scale": 2.0})),
    ),
    Mutant(
        id="shared-kv-own-cache",
        summary="a redirected layer reads its own cache, which nobody fills",
        bug="huggingface/transformers#45253",
        catalogue=("M37",),
        clause=Clause.KV_SHARING,
        make=edited(
            "reference",
            Edit("cache = self.batch.caches[self.batch.layers[layer].cache]", "cache = self.batch.caches[layer]"),
        ),
        proof=ask("decode", FULL, SHARED),
    ),
    Mutant(
        id="shared-kv-shifted-query",
        summary="positions of a redirected layer are advanced once more by its new tokens",
        bug="ml-explore/mlx-lm#1396",
        catalogue=("M37",),
        clause=Clause.CAUSAL,
        make=edited(
            "reference",
            Edit("(keys > positions)", "(keys > positions + q_len * (self.batch.layers[layer].cache != layer))"),
        ),
        proof=ask("extend", FULL, SHARED),
    ),
    Mutant(
        id="shared-kv-owners-window",
        summary="a redirected layer takes its owner's window",
        clause=Clause.KV_SHARING,
        make=edited(
            "reference",
            Edit(
                "window = geometry.window_left if geometry.window_left >= 0 else kv_len",
                "window = self._owner(layer).window_left if geometry.window_left >= 0 else kv_len",
            ),
        ),
        proof=ask("decode", SLIDING, SLIDING.model_copy(update={"kv_owner": 0, "window_left": 9})),
    ),
    Mutant(
        id="shared-kv-appended-twice",
        summary="a redirected layer counts the newest token again",
        bug="ROCm/hip-ep#882",
        clause=Clause.KV_SHARING,
        make=edited(
            "reference",
            Edit(
                "k, v = (self._gather(cache, table, first_key, kv_len) for",
                "again = self.batch.layers[layer].cache != layer\n        k, v = (torch.cat([part, "
                "part[-1:]]) if again else part for part in (self._gather(cache, table, first_key, "
                "kv_len) for",
            ),
            Edit("cache in self._caches(layer))", "cache in self._caches(layer)))"),
            Edit(
                "keys = torch.arange(first_key, kv_len, device=q.device)[None, :]",
                "keys = torch.arange(first_key, first_key + k.shape[0], "
                "device=q.device).clamp_max(kv_len - 1)[None, :]",
            ),
        ),
        proof=ask("decode", FULL, SHARED),
    ),
    Mutant(
        id="shared-kv-owners-scale",
        summary="a redirected layer scores by its owner's sm_scale",
        clause=Clause.KV_SHARING,
        make=edited("reference", Edit("(geometry.sm_scale *", "(self._owner(layer).sm_scale *")),
        proof=ask("decode", FULL, SHARED),
    ),
)
