"""``flash_attn_varlen_func`` as flash-attn 2.8 documents it, in PyTorch: what transformers' wrappers are judged with.

Its docstring: causal masks are aligned to the bottom right corner; with a window (left, right) the query at position i
attends to keys between i + seqlen_k - seqlen_q - left and i + seqlen_k - seqlen_q + right, inclusive; -1 is infinite.
"""

from __future__ import annotations

import torch


def flash_attn_varlen_func(  # noqa: PLR0913 - the documented signature
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    cu_seqlens_q: torch.Tensor,
    cu_seqlens_k: torch.Tensor,
    max_seqlen_q: int,
    max_seqlen_k: int,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,  # noqa: FBT001, FBT002 - the documented signature
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
) -> torch.Tensor:
    """Return [total queries, heads, head_dim] for ``q`` so, and ``k`` and ``v`` [total keys, KV heads, head_dim]."""
    del max_seqlen_q, max_seqlen_k, dropout_p
    out = torch.empty_like(q)
    pairs = zip(cu_seqlens_q.tolist(), cu_seqlens_q.tolist()[1:], strict=False)
    keys = zip(cu_seqlens_k.tolist(), cu_seqlens_k.tolist()[1:], strict=False)
    for (first, last), (key_first, key_last) in zip(pairs, keys, strict=True):
        out[first:last] = flash_attn_func(
            q[None, first:last],
            k[None, key_first:key_last],
            v[None, key_first:key_last],
            softmax_scale=softmax_scale,
            causal=causal,
            window_size=window_size,
            softcap=softcap,
        )[0]
    return out


def flash_attn_func(  # noqa: PLR0913 - the documented signature
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    dropout_p: float = 0.0,
    softmax_scale: float | None = None,
    causal: bool = False,  # noqa: FBT001, FBT002 - the documented signature
    window_size: tuple[int, int] = (-1, -1),
    softcap: float = 0.0,
) -> torch.Tensor:
    """Return [batch, queries, heads, head_dim] for ``q`` so, and ``k`` and ``v`` [batch, keys, KV heads, head_dim]."""
    del dropout_p
    groups = q.shape[2] // k.shape[2]
    keys, values = (tensor.float().repeat_interleave(groups, dim=2) for tensor in (k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q.float(), keys)
    scores = scores * (q.shape[-1] ** -0.5 if softmax_scale is None else softmax_scale)
    if softcap > 0:
        scores = softcap * torch.tanh(scores / softcap)
    left, right = window_size
    ahead = torch.arange(k.shape[1])[None, :] - torch.arange(q.shape[1])[:, None] - (k.shape[1] - q.shape[1])
    hidden = torch.zeros_like(ahead, dtype=torch.bool)
    if causal:
        hidden |= ahead > 0
    if left >= 0:
        hidden |= ahead < -left
    if right >= 0:
        hidden |= ahead > right
    return torch.einsum("bhqk,bkhd->bqhd", scores.masked_fill(hidden, -torch.inf).softmax(-1), values).to(q.dtype)
