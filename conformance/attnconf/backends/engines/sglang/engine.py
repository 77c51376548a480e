"""One model of sglang, its pools and its forward batch: the parts of an engine that its attention backend reads.

The classes are sglang's own: the attention backend, ``RadixAttention``, ``ForwardBatch``, the request pool, the KV
pools, their allocator and the index translator. Two objects are substitutes: the runner, with the attributes that the
backend reads, and the model's configuration, with its shapes. The backend builds its metadata from these.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch

from attnconf.backends.engines.sglang.images import images
from attnconf.backends.engines.sglang.pools import fill, flat, make_pools, make_rows, new_tokens, slot_table, slots_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.engines.sglang.groups import Group
    from attnconf.backends.engines.sglang.library import Library
    from attnconf.backends.engines.sglang.pools import Tokens
    from attnconf.cases.inputs.batch import Batch

    MakeBackend = Callable[[Any], Any]

_ARCHITECTURE = "Gemma4ForConditionalGeneration"
_FORWARD_MODES = {"decode": "DECODE", "extend": "EXTEND", "mixed": "MIXED", "verify": "TARGET_VERIFY"}


@dataclass
class Engine:
    """The layers of ``group`` in one model of sglang. ``written`` are the caches with their new tokens in the pool."""

    sglang: Library
    batch: Batch
    group: Group
    backend: Any
    forward: Any
    pool: Any
    tokens: Tokens
    written: set[int] = field(default_factory=set)

    def run(self, index: int) -> torch.Tensor:
        """Run one layer as the model does: an owner writes its keys and values first, a redirected layer does not.

        Returns [tokens, num_qo_heads, head_dim].
        """
        inputs = self.batch.layers[index]
        layer = self._attention(index, inputs.cache)
        sinks = {} if inputs.sinks is None else {"sinks": inputs.sinks}
        redirected = inputs.geometry.kv_owner is not None
        with self.sglang.forward_context(self.sglang.ForwardContext(attn_backend=self.backend)):
            if redirected:
                self._write(inputs.cache, layer)
                k = v = None
            else:
                k, v = self._new_kv(inputs.cache)
                self.written.add(inputs.cache)
            out: torch.Tensor = layer(
                inputs.q[: self.batch.num_rows], k, v, self.forward, save_kv_cache=not redirected, **sinks
            )
        return out.view(-1, *inputs.q.shape[1:])

    def _write(self, cache: int, layer: Any) -> None:  # noqa: ANN401 - a RadixAttention under the owner's id
        """Write the owner's new tokens to the pool, as a run of the owner does, unless it has run already."""
        if cache in self.written:
            return
        self.written.add(cache)
        swa = self.backend.forward_metadata.swa_out_cache_loc
        where = self.sglang.KVWriteLoc.for_batch(self.forward, swa_loc=swa)
        self.pool.set_kv_buffer(layer, where, *self._new_kv(cache))

    def _new_kv(self, cache: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the keys and values of the new tokens, each [tokens, num_kv_heads, head_dim]."""
        slots = slots_in(self.batch, cache, self.tokens.slots)
        k, v = flat(self.batch, cache)
        return k[slots], v[slots]

    def _attention(self, index: int, cache: int) -> Any:  # noqa: ANN401 - a RadixAttention
        """Return the layer as model code declares it. A redirected layer has its owner's id."""
        geometry = self.batch.layers[index].geometry
        return self.sglang.RadixAttention(
            geometry.num_qo_heads,
            geometry.head_dim,
            geometry.sm_scale,
            num_kv_heads=geometry.num_kv_heads,
            layer_id=self.group.caches.index(cache),
            logit_cap=geometry.logits_soft_cap or 0.0,
            sliding_window_size=geometry.window_left,
        )


def start(batch: Batch, group: Group, sglang: Library, make_backend: MakeBackend) -> Engine:
    """Build the engine around the layers of ``group``, and let its attention backend prepare the batch."""
    table = slot_table(batch)
    tokens = new_tokens(batch, table)
    pool, allocator = make_pools(batch, group, sglang)
    fill(batch, group, pool, tokens.slots)
    rows = make_rows(batch, table, sglang)
    parts = {"token_to_kv_pool": pool, "token_to_kv_pool_allocator": allocator}
    translator = sglang.KVIndexTranslator(
        req_to_token=rows.req_to_token, page_size=batch.page_size, device=str(batch.device), **parts
    )
    parts |= {"req_to_token_pool": rows, "kv_index_translator": translator}
    backend = make_backend(_runner(batch, group, sglang, parts))
    forward = _forward_batch(batch, tokens, sglang)
    if batch.mode == "extend" and any(batch.layers[index].geometry.spans for index in group.layers):
        forward.mm_inputs = images(batch)  # a model none of whose layers follows images is asked as one without
    translator.own_plan(forward).bind(forward, translator)
    backend.init_forward_metadata(forward)
    if forward.mm_inputs is not None:
        with sglang.forward_context(sglang.ForwardContext(attn_backend=backend)):
            model: Any = None  # of whose state the method uses nothing
            make_masks = sglang.Gemma4ForConditionalGeneration.prepare_attn_masks
            make_masks(model, forward, forward.input_ids, mask_dtype=torch.bool)
    return Engine(sglang, batch, group, backend, forward, pool, tokens)


def _runner(batch: Batch, group: Group, sglang: Library, parts: dict[str, Any]) -> SimpleNamespace:
    """Return the attributes of sglang's model runner that an attention backend reads; ``parts`` are its pools."""
    q_len = batch.q_lens[0] if batch.mode == "verify" else 1
    return SimpleNamespace(
        **parts,
        page_size=batch.page_size,
        sliding_window_size=group.window_left if group.window_left >= 0 else None,
        model_config=_model_config(batch, group, sglang),
        decode_num_tokens_per_req=lambda: q_len,
        server_args=sglang.arguments,
        model=torch.nn.Module(),
        is_draft_worker=False,
        spec_algorithm=None,
        max_running_requests=len(batch.kv_lens),
        dtype=batch.layers[group.layers[0]].q.dtype,
        kv_cache_dtype=batch.caches[group.caches[0]].k.dtype,
        device=str(batch.device),
        gpu_id=0,
    )


def _model_config(batch: Batch, group: Group, sglang: Library) -> SimpleNamespace:
    """Return the attributes of the model's configuration that an attention backend reads.

    In sglang's names, attributes of sliding layers begin with ``swa_``.
    """
    qo_heads = max(batch.layers[index].geometry.num_qo_heads for index in group.layers)
    swa = group.shapes.get("swa") or group.shapes["full"]
    kv_heads, head_dim = group.shapes.get("full") or swa
    return SimpleNamespace(
        hf_config=sglang.PretrainedConfig(architectures=[_ARCHITECTURE]),
        linear_attn_registry_result=None,
        attention_arch=sglang.AttentionArch.MHA,
        num_attention_heads=qo_heads,
        get_max_num_attention_heads=lambda: qo_heads,
        get_num_kv_heads=lambda *_: kv_heads,
        head_dim=head_dim,
        v_head_dim=head_dim,
        swa_head_dim=swa[1],
        swa_v_head_dim=swa[1],
        hidden_size=qo_heads * head_dim,
        context_len=batch.max_seq_len,
        is_encoder_decoder=False,
        is_multimodal=False,
    )


def _forward_batch(batch: Batch, tokens: Tokens, sglang: Library) -> Any:  # noqa: ANN401 - sglang's ForwardBatch
    """Return the batch as sglang's scheduler and its ``ForwardBatch.init_new`` would pass it to a model.

    In target verification ``seq_lens`` counts only cached tokens; in other modes it counts new ones, too.
    """
    device = batch.device
    verify = batch.mode == "verify"
    prefix = [kv_len - q_len for q_len, kv_len in zip(batch.q_lens, batch.kv_lens, strict=True)]
    lens = torch.tensor(prefix if verify else batch.kv_lens, dtype=torch.int64)
    extend: dict[str, Any] = {}
    if batch.mode in {"extend", "mixed"}:
        starts = list(accumulate(batch.q_lens, initial=0))[:-1]
        extend = {
            "extend_num_tokens": batch.num_rows,
            "extend_seq_lens": torch.tensor(batch.q_lens, dtype=torch.int32, device=device),
            "extend_prefix_lens": torch.tensor(prefix, dtype=torch.int32, device=device),
            "extend_start_loc": torch.tensor(starts, dtype=torch.int32, device=device),
            "extend_seq_lens_cpu": list(batch.q_lens),
            "extend_prefix_lens_cpu": prefix,
        }
    return sglang.ForwardBatch(
        forward_mode=getattr(sglang.ForwardMode, _FORWARD_MODES[batch.mode]),
        batch_size=len(batch.kv_lens),
        input_ids=torch.zeros(batch.num_rows, dtype=torch.int64, device=device),
        req_pool_indices=torch.arange(1, len(batch.kv_lens) + 1, device=device),
        seq_lens=lens.to(device),
        seq_lens_cpu=lens,
        seq_lens_sum=int(lens.sum()),
        out_cache_loc=tokens.slots,
        positions=tokens.positions,
        spec_info=_chain(batch, tokens, lens, sglang) if verify else None,
        **extend,
    )


def _chain(batch: Batch, tokens: Tokens, prefix: torch.Tensor, sglang: Library) -> Any:  # noqa: ANN401 - EagleVerifyInput
    """Return a verify input whose draft tokens are a chain, with the mask of sglang's draft stage.

    In the mask, by request and by row, each draft token sees the cached tokens and the draft tokens up to itself.
    """
    q_len = batch.q_lens[0]
    chain = torch.ones(q_len, q_len, dtype=torch.bool).tril()
    masks = [torch.cat([torch.ones(q_len, int(length), dtype=torch.bool), chain], dim=1).flatten() for length in prefix]
    nothing = torch.zeros(0, dtype=torch.int64, device=batch.device)
    return sglang.EagleVerifyInput(
        draft_token=torch.zeros(batch.num_rows, dtype=torch.int64, device=batch.device),
        custom_mask=torch.cat(masks).to(batch.device),
        positions=tokens.positions,
        retrieve_index=nothing,
        retrieve_next_token=nothing,
        retrieve_next_sibling=nothing,
        retrieve_cum_len=nothing,
        spec_steps=q_len - 1,
        topk=1,
        draft_token_num=q_len,
        capture_hidden_mode=sglang.CaptureHiddenMode.NULL,
        seq_lens_sum=int(prefix.sum()),
        seq_lens_cpu=prefix,
    )
