"""Sizes: faults at the borders of kernels: tiles, splits, groups, pages, grids, integer widths, long prefills."""

from __future__ import annotations

from attnconf.cases.case import Layer, Paging, Poison
from attnconf.cases.request import Request
from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import HYBRID, ask, quantised
from attnconf.mutants.source import Edit, edited

_HIDDEN = "(keys > positions) | (keys < positions - window)"
_GATHERED = "for cache in self._caches(layer))\n"
_READ = "return by_token[table.long()[tokens // size], tokens % size]"
_SCALED = "scores = scores * (geometry.sm_scale * self._owner(layer).k_scale)\n"
_CALL = "self._attend(layer, tables[row], rows, kv_len)"

NARROW = Layer(kind="full", num_qo_heads=2, num_kv_heads=1, head_dim=64, sm_scale=0.2)
WINDOWED = NARROW.model_copy(update={"kind": "sliding", "window_left": 40})
FAINT = NARROW.model_copy(update={"sm_scale": 0.001})
"""A layer whose scores are far from zero before they are scaled."""

_LOW = 2
"""A seed of cases whose scores are all low: -160 after scaling."""

_BRIEF = tuple(Request(prefix_len=index % 5) for index in range(130))


def _hides(keys: str) -> Edit:
    """Return the edit that hides, or shows, what ``keys`` says in place of the right mask."""
    return Edit(_HIDDEN, keys)


MUTANTS = (
    Mutant(
        id="requests-past-128",
        summary="the plan has room for 128 requests: later ones are one key short",
        clause=Clause.CAUSAL,
        make=edited("reference", Edit(_CALL, _CALL.replace("kv_len)", "kv_len - (row >= 128 and kv_len > q_len))"))),
        proof=ask("decode", NARROW, requests=_BRIEF),
    ),
    Mutant(
        id="rows-fill-a-tile",
        summary="where the rows of a request fill tiles of 64, the tile on the diagonal is taken for one below it",
        clause=Clause.CAUSAL,
        make=edited("reference", _hides("((keys > positions) & (q_len % 64 > 0)) | (keys < positions - window)")),
        proof=ask("extend", NARROW, requests=(Request(new_tokens=64, prefix_len=9),)),
    ),
    Mutant(
        id="keys-fill-a-split",
        summary="where the keys fill splits of 1,024, the last split is one key short",
        clause=Clause.CAUSAL,
        make=edited("reference", _hides(f"{_HIDDEN} | (keys >= kv_len - (kv_len % 1024 == 0))")),
        proof=ask("decode", NARROW, requests=(Request(prefix_len=1023),)),
    ),
    Mutant(
        id="keys-past-16-bits",
        summary="a key's number is kept in 16 bits: those from 65,536 on are not read",
        clause=Clause.CAUSAL,
        make=edited("reference", _hides(f"{_HIDDEN} | (keys > 65535)")),
        proof=ask("decode", NARROW, requests=(Request(prefix_len=65_540),), paging=Paging(page_size=64)),
    ),
    Mutant(
        id="sinks-in-each-split",
        summary="from 512 keys on they are split in two, and each split counts the sink",
        clause=Clause.SCORES,
        make=edited(
            "reference",
            Edit(
                "sinks = inputs.sinks.float()",
                "sinks = (inputs.sinks.float() + (math.log(2) if kv_len > 512 else 0.0))",
            ),
        ),
        proof=ask("decode", NARROW.model_copy(update={"sinks": True}), requests=(Request(prefix_len=600),)),
    ),
    Mutant(
        id="cap-lost-past-2048",
        summary="the kernel with splits, for more than 2,048 keys, was compiled without the soft cap",
        clause=Clause.SCORES,
        make=edited(
            "reference",
            Edit(
                "if geometry.logits_soft_cap is not None:",
                "if geometry.logits_soft_cap is not None and kv_len <= 2048:",
            ),
        ),
        proof=ask("decode", NARROW.model_copy(update={"logits_soft_cap": 20.0}), requests=(Request(prefix_len=2050),)),
    ),
    Mutant(
        id="window-tile-of-128",
        summary="where a window starts at a tile of 128 keys, its first key is skipped with the tile before it",
        clause=Clause.WINDOW,
        make=edited(
            "reference", _hides(f"{_HIDDEN} | ((keys == positions - window) & (keys % 128 == 0) & (keys > 0))")
        ),
        proof=ask("decode", WINDOWED, requests=(Request(prefix_len=128 + 40),)),
    ),
    Mutant(
        id="window-tile-of-256",
        summary="a window that starts one key behind a tile of 256 keys reads from the tile's first key on",
        clause=Clause.WINDOW,
        make=edited(
            "reference",
            _hides("(keys > positions) | (keys < positions - window - ((positions - window) % 256 == 1).long())"),
            Edit("first_key = max(0, kv_len - q_len - window)", "first_key = max(0, kv_len - q_len - window - 1)"),
        ),
        proof=ask("decode", WINDOWED, requests=(Request(prefix_len=257 + 40),)),
    ),
    Mutant(
        id="window-in-long-prefill",
        summary="a prefill that is longer than its window of 256 keys or more runs the causal kernel",
        bug="flashinfer-ai/flashinfer#1881",
        clause=Clause.WINDOW,
        make=edited(
            "reference",
            _hides("(keys > positions) | ((keys < positions - window) & ((q_len <= window + 1) | (window < 255)))"),
        ),
        proof=ask(
            "extend",
            WINDOWED.model_copy(update={"window_left": 255}),
            requests=(Request(prefix_len=9, new_tokens=300),),
        ),
    ),
    Mutant(
        id="window-in-large-batch",
        summary="the persistent kernel of more than 32 requests has one key more in its window",
        clause=Clause.WINDOW,
        make=edited(
            "reference",
            Edit(
                "if geometry.window_left >= 0 else kv_len\n",
                "if geometry.window_left >= 0 else kv_len\n"
                "        window += geometry.window_left > 0 and len(self.batch.q_lens) > 32\n",
            ),
        ),
        proof=ask("decode", WINDOWED.model_copy(update={"window_left": 2}), requests=_BRIEF[:40]),
    ),
    Mutant(
        id="group-past-8",
        summary="a tile of 8 query heads: from the ninth head of a group on its first heads are read again",
        clause=Clause.GQA,
        make=edited(
            "reference",
            Edit(
                "q = inputs.q[rows].float() * inputs.q_scale\n",
                "q = inputs.q[rows].float() * inputs.q_scale\n        group = geometry.group_size\n"
                "        heads = torch.arange("
                "q.shape[1], device=q.device)\n        q = q[:, heads // group * group + heads % group % 8]\n",
            ),
        ),
        proof=ask("decode", NARROW.model_copy(update={"num_qo_heads": 16})),
    ),
    Mutant(
        id="kv-heads-past-32",
        summary="the grid has 32 KV heads: later ones are those before them",
        clause=Clause.GQA,
        make=edited(
            "reference",
            Edit(
                _GATHERED,
                f"{_GATHERED}        k, v = (one[:, torch.arange(one.shape[1]) % 32] for one in (k, v))\n",
            ),
        ),
        proof=ask("decode", NARROW.model_copy(update={"num_qo_heads": 33, "num_kv_heads": 33})),
    ),
    Mutant(
        id="layers-past-8",
        summary="scales are kept for 8 layers: a later layer has the one of a layer before it",
        clause=Clause.SCORES,
        make=edited(
            "reference",
            Edit(_SCALED, _SCALED.replace("geometry.sm_scale", "self.batch.layers[layer % 8].geometry.sm_scale")),
        ),
        proof=ask("decode", NARROW, *[NARROW.model_copy(update={"sm_scale": 0.1})] * 8),
    ),
    Mutant(
        id="page-no-power-of-two",
        summary="a page of 32 slots or more is found by a shift, as if its size were a power of two",
        clause=Clause.PAGING,
        make=edited(
            "reference",
            Edit(
                _READ,
                "shift = size.bit_length() - 1\n        pages = tokens // size if size < 32 else (tokens >> shift)\n"
                "        return by_token[table.long()[pages.clamp_max(len(table) - 1)], tokens % size]",
            ),
        ),
        proof=ask("decode", NARROW, requests=(Request(prefix_len=200),), paging=Paging(page_size=48)),
    ),
    Mutant(
        id="page-past-512",
        summary="a slot's number in its page is kept in 9 bits",
        clause=Clause.PAGING,
        make=edited("reference", Edit(_READ, _READ.replace("tokens % size", "tokens % size % 512"))),
        proof=ask("decode", NARROW, requests=(Request(prefix_len=540),), paging=Paging(page_size=544)),
    ),
    Mutant(
        id="scores-in-float16",
        summary="products of q and k are stored in float16 before they are scaled: they end at 65,504",
        clause=Clause.SCORES,
        make=edited("reference", Edit(_SCALED, f"scores = scores.clamp(-65504.0, 65504.0)\n        {_SCALED}")),
        proof=ask("decode", FAINT, seed=_LOW),
    ),
    Mutant(
        id="row-below-5e4",
        summary="the running maximum starts at -5e4: a row whose products of q and k all lie below it is empty",
        bug="flashinfer-ai/flashinfer#4674",
        clause=Clause.SCORES,
        make=edited(
            "reference",
            Edit(_SCALED, f"lost = (scores < -5e4).all(dim=3)\n        {_SCALED}"),
            Edit(
                "return (out / inputs.out_scale).to(inputs.out_dtype), lse",
                "out = out.masked_fill(lost.flatten(0, 1).transpose(0, 1)[:, :, None], 0.0)\n"
                "        return (out / inputs.out_scale).to(inputs.out_dtype), lse",
            ),
        ),
        proof=ask("decode", FAINT, seed=_LOW),
    ),
    Mutant(
        id="first-request-empty",
        summary="where the first request has no query tokens, the next one reads its table",
        clause=Clause.PAGING,
        make=edited(
            "reference",
            Edit(_CALL, _CALL.replace("tables[row]", "tables[row - (row == 1 and self.batch.q_lens[0] == 0)]")),
            Edit("table.long()[tokens // size],", "table.long()[tokens // size].clamp(0, len(cache) - 1),"),
        ),
        proof=ask("extend", requests=(Request(prefix_len=20, new_tokens=0), Request(prefix_len=18, new_tokens=3))),
    ),
    Mutant(
        id="eight-bits-of-another-format",
        summary="stored 8-bit values end at 240, as in the format of other hardware",
        clause=Clause.QUANTISED,
        make=edited("reference", Edit("p, v.float())", "p, v.float().clamp(-240.0, 240.0))")),
        proof=quantised("decode", NARROW.model_copy(update={"k_scale": 1.0, "v_scale": 2.0**-7})),
    ),
    Mutant(
        id="eight-bits-without-subnormals",
        summary="stored 8-bit values below the smallest normal one are read as zero",
        clause=Clause.QUANTISED,
        make=edited(
            "reference",
            Edit("p, v.float())", "p, v.float() * (v.float().abs() >= (2.0**-6 if v.element_size() == 1 else 0.0)))"),
        ),
        proof=quantised("decode", NARROW.model_copy(update={"k_scale": 1.0, "v_scale": 64.0})),
    ),
    Mutant(
        id="shared-kv-in-large-batch",
        summary="with more than 16 requests a redirected layer reads its own keys",
        clause=Clause.KV_SHARING,
        make=edited(
            "reference",
            Edit(
                "cache = self.batch.caches[self.batch.layers[layer].cache]\n",
                "many = len(self.batch.q_lens) > 16\n"
                "        cache = self.batch.caches[layer if many else self.batch.layers[layer].cache]\n",
            ),
        ),
        proof=ask("decode", NARROW, NARROW.model_copy(update={"kv_owner": 0}), requests=_BRIEF[:17]),
    ),
    Mutant(
        id="hybrid-pool-past-2048",
        summary="the kernel for more than 2,048 keys reads a sliding layer's pool by page ids of the full one",
        clause=Clause.HYBRID_POOLS,
        make=edited(
            "reference",
            Edit(
                _CALL,
                "self._attend(layer, (tables if kv_len <= 2048 else self.batch.block_tables.clamp_max("
                "len(self._caches(layer)[0]) - 1))[row], rows, kv_len)",
            ),
        ),
        proof=ask("decode", WINDOWED, requests=(Request(prefix_len=2050),), paging=HYBRID, poison=Poison(k="zero")),
    ),
)
