"""Trees of drafts that are taken for chains, for others, or for tokens in a row (clauses 1 and 2)."""

from __future__ import annotations

from attnconf.clauses import Clause
from attnconf.mutants.mutant import Mutant
from attnconf.mutants.small_cases import FULL, SLIDING, ask
from attnconf.mutants.source import Edit, edited

_TREE = {"prefix_len": 44, "new_tokens": 7, "tree": (-1, 0, 0, 1, 1, 2, 2)}
_OTHER = {"prefix_len": 20, "new_tokens": 7, "tree": (-1, 0, 0, 0, 3, 3, 4)}
_CHAIN = {"prefix_len": 9, "new_tokens": 3}
_SEEN = "mask[rows][:, drafts]"

MUTANTS = (
    Mutant(
        id="tree-as-a-chain",
        summary="a tree of drafts is verified by the causal kernel",
        clause=Clause.CAUSAL,
        make=edited(
            "reference", Edit("if self.batch.tree_mask is not None:", "if self.batch.tree_mask is self.batch:")
        ),
        proof=ask("verify", requests=(_TREE, _CHAIN)),
    ),
    Mutant(
        id="tree-unchecked-below-the-diagonal",
        summary="the mask is asked for in tiles on the diagonal alone: those below it count as seen, as if causal",
        bug="PaddlePaddle/FastDeploy#3514",
        clause=Clause.CAUSAL,
        make=edited(
            "reference",
            Edit(_SEEN, f"({_SEEN} | (drafts // 4 < torch.arange(len(positions))[:, None] // 4))"),
        ),
        proof=ask("verify", requests=(_TREE, _CHAIN)),
    ),
    Mutant(
        id="tree-of-the-first-request",
        summary="the rows of every request are masked by the tree of the first one",
        clause=Clause.CAUSAL,
        make=edited("reference", Edit(_SEEN, "mask[: rows.stop - rows.start][:, drafts]")),
        proof=ask("verify", requests=(_TREE, _OTHER)),
    ),
    Mutant(
        id="tree-turned-over",
        summary="rows and columns of the mask are swapped: a draft sees its children, and not its parents",
        clause=Clause.CAUSAL,
        make=edited("reference", Edit(_SEEN, "mask[rows][:, : len(positions)].T[:, drafts]")),
        proof=ask("verify", requests=(_TREE, _OTHER)),
    ),
    Mutant(
        id="tree-past-a-mask-word",
        summary="the mask of a tree is one word of 32 bits: the drafts behind it are seen by all",
        clause=Clause.CAUSAL,
        make=edited("reference", Edit(_SEEN, f"({_SEEN} | (drafts >= 32))")),
        proof=ask("verify", requests=({"prefix_len": 20, "new_tokens": 40, "tree": (-1, *[0] * 39)},)),
    ),
    Mutant(
        id="tree-window-by-place",
        summary="the window of a draft begins so far before its place among the drafts, not before its position",
        clause=Clause.WINDOW,
        make=edited(
            "reference",
            Edit("(places < positions - window)", "(keys < cached + torch.arange(len(positions))[:, None] - window)"),
        ),
        proof=ask("verify", SLIDING, requests=(_TREE, _CHAIN)),
    ),
    Mutant(
        id="tree-rows-of-the-block",
        summary="a kernel finds the rows of a tree's mask by their number in a block, and not in the batch",
        clause=Clause.CAUSAL,
        make=edited(
            "triton", Edit("tree_mask + token * tree_row", "tree_mask + row_token * tree_row", "triton.kernel")
        ),
        proof=ask("verify", FULL, requests=(_TREE, _OTHER)),
    ),
)
