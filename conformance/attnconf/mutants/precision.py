"""Bits that are lost on the way, and of which no profile says a word: what is left of terms that cancel (clause 3)."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import served
from attnconf.mutants.source import Edit, edited

_CANCELLING = 5
"""A seed whose values cancel (``cases/inputs/cancelling.py``)."""

_P = "p = torch.softmax(scores, dim=3)[..., : k.shape[0]]"
_SUM = 'torch.einsum("hgmn,nhd->mhgd", p, v.float())'
_HALVES = (
    'sum(torch.einsum("hgmn,nhd->mhgd", p[..., part], v[part].float()).to(inputs.q.dtype).float()'
    " for part in (slice(None, kv_len // 2), slice(kv_len // 2, None)))"
)

MUTANTS = (
    Mutant(
        id="weights-in-16-bits",
        summary="P is rounded to the dtype of the query, and the profile says float32",
        clause=Clause.SCORES,
        make=edited("reference", Edit(_P, f"{_P}.to(inputs.q.dtype).float()")),
        proof=served("decode", seed=_CANCELLING),
    ),
    Mutant(
        id="partial-sums-in-16-bits",
        summary="the sums over two halves of the keys are stored in the dtype of the answer before they are added",
        clause=Clause.SCORES,
        make=edited("reference", Edit(_SUM, _HALVES)),
        proof=served("decode", seed=_CANCELLING),
    ),
)
