"""Calls behind other calls: keys of caches that lack a trait or are an address (clauses 10 and 15)."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import SLIDING, ask
from attnconf.mutants.source import Edit, edited

_RUN = "return _Run(batch)"
_REPLACE = Edit("from dataclasses import dataclass", "from dataclasses import dataclass, replace")
_KEY = "(batch.mode, batch.page_size, tuple(one.q.shape for one in batch.layers))"
_KEPT = f"kept = self.__dict__.setdefault({_KEY}, batch)"


def _launch_kept(changed: str) -> Edit:
    """Return an edit by which the first call of a shape decides ``changed`` of each layer's geometry."""
    layers = (
        f"tuple(replace(one, geometry=one.geometry.model_copy(update={changed}))"
        " for one, was in zip(batch.layers, kept.layers, strict=True))"
    )
    return Edit(_RUN, f"{_KEPT}\n        return _Run(replace(batch, layers={layers}))")


_NAME = 'KERNEL = "torch-paged"'

MUTANTS = (
    Mutant(
        id="scale-kept-by-shape",
        summary="the first call's sm_scale is compiled into the kernel of its shape",
        clause=Clause.DETERMINISM,
        make=edited("reference", _launch_kept('{"sm_scale": was.geometry.sm_scale}'), _REPLACE),
        proof=ask("decode"),
    ),
    Mutant(
        id="query-strides-kept-by-shape",
        summary="a graph is kept by the query's shape, with the strides that the first one had",
        bug="flashinfer-ai/flashinfer#4625",
        clause=Clause.DETERMINISM,
        make=edited(
            "reference",
            Edit(
                _RUN,
                f"{_KEPT}\n        strides = [one.q.stride() for one in kept.layers]\n"
                "        layers = tuple(replace(one, q=one.q.new_zeros(1)[0].expand(one.q.shape).contiguous()"
                " if one.q.stride() != was else one.q) for one, was in zip(batch.layers, strides, strict=True))\n"
                "        return _Run(replace(batch, layers=layers))",
            ),
            _REPLACE,
        ),
        proof=ask("decode", seed=1),
    ),
    Mutant(
        id="cache-strides-kept-by-shape",
        summary="a descriptor of the cache is kept by its shape, with the strides that the first one had",
        clause=Clause.DETERMINISM,
        make=edited(
            "reference",
            Edit(_NAME, f"{_NAME}\n_STRIDES = {{}}"),
            Edit(
                "return cache.k, cache.v",
                "kept = _STRIDES.setdefault((cache.k.shape, self.batch.kv_lens), cache.k.stride())\n"
                "        strides = [min(pair) for pair in zip(kept, cache.k.stride(), strict=True)]\n"
                "        return cache.k.as_strided(cache.k.shape, strides), cache.v",
            ),
        ),
        proof=ask("decode", seed=4),
    ),
    Mutant(
        id="cache-dtype-kept-by-shape",
        summary="whether keys and values are scaled is kept by their shape: the first call was over 16-bit ones",
        clause=Clause.DETERMINISM,
        make=edited(
            "reference",
            Edit(_NAME, f"{_NAME}\n_PLAIN = {{}}"),
            Edit(
                "return cache.k, cache.v",
                "plain = _PLAIN.setdefault((cache.k.shape, self.batch.kv_lens), cache.k.itemsize > 1)\n"
                "        return (cache.k, cache.v) if plain == (cache.k.itemsize > 1) else (cache.v, cache.k)",
            ),
        ),
        proof=ask("decode", q_dtype="bfloat16", kv_dtype="bfloat16", seed=5),
    ),
    Mutant(
        id="metadata-kept-by-address",
        summary="metadata is kept by the address of the table: what is written into it later is not looked at",
        clause=Clause.DETERMINISM,
        make=edited(
            "reference",
            Edit(
                _RUN,
                "key = (batch.block_tables.data_ptr(), batch.block_tables.shape)\n"
                "        tables, lens = self.__dict__.setdefault(key, (batch.block_tables.clone(), batch.kv_lens))\n"
                "        return _Run(replace(batch, block_tables=tables, kv_lens=lens))",
            ),
            _REPLACE,
        ),
        proof=ask("decode", SLIDING),
    ),
    Mutant(
        id="last-prepared-runs",
        summary="a batch that runs for the first time takes the lengths of the batch that was prepared last",
        clause=Clause.DETERMINISM,
        make=edited(
            "reference",
            Edit(_RUN, "self.__dict__['last'] = batch\n        return _Run(batch, self)"),
            Edit("    batch: Batch\n", "    batch: Batch\n    home: object = None\n"),
            Edit(
                "strict=True)):\n            if q_len == 0:",
                "strict=True)):\n            first = self.home.last.kv_lens, self"
                "\n            kept = vars(self.home).setdefault(id(self), first)"
                "\n            kv_len = kept[0][row] if len(kept[0]) == len(self.batch.kv_lens) else kv_len"
                "\n            if q_len == 0:",
            ),
        ),
        proof=ask("decode"),
    ),
    Mutant(
        id="prepare-sorts-lengths",
        summary="preparing sorts the lengths in place, and the run puts them back",
        clause=Clause.READ_ONLY,
        make=edited(
            "reference",
            Edit(_RUN, "batch.seq_lens.copy_(batch.seq_lens.flip(0))\n        return _Run(batch)"),
            Edit(
                "        return KERNEL\n",
                "        self.batch.seq_lens.copy_(torch.tensor(self.batch.kv_lens))\n        return KERNEL\n",
            ),
        ),
        proof=ask("decode"),
    ),
    Mutant(
        id="counter-behind-the-lengths",
        summary="a counter is kept behind the last length, in memory that is another's",
        clause=Clause.READ_ONLY,
        make=edited(
            "reference",
            Edit(
                "        return KERNEL\n",
                "        count = len(self.batch.seq_lens)\n"
                "        self.batch.seq_lens.as_strided((count + 1,), (1,))[count] += 1\n        return KERNEL\n",
            ),
        ),
        proof=ask("decode"),
    ),
)
