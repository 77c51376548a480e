"""Attention words: which fields of a config.json change attention, and the refusal of one that nobody reads.

A field that sounds like attention is read by ``hf_config.py`` and ``layer_kinds.py``, is known to change nothing that a
``LayerGeometry`` says, or is refused by its name. The lists are written down, and tested on the default configuration
of every language model of transformers (``ci/readings``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from attnconf.fields import Fields


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


WORDS = _words(
    """
    att attn attention cap caps channels cla cross every full gqa head heads hybrid index indexer interval k key
    keys kv lightning mixer mixers mla mqa msa nsa dsa pattern period q qk queries query routing share shared
    sharing skip sparse switch topk types v value values yoco block blocks
    """
)
"""Words of a name, between underscores, that may be about attention."""

STRONG = re.compile(
    r"window|sliding|swa|sink|chunk|alibi|causal|bidirection|local|global|cross_|latent|compress|rolling"
)
"""Parts of a name that are about attention whatever stands beside them."""

ELSEWHERE = _words(
    """
    audio bias classifier clip codebook codebooks conv deepstack depth dropout embed embedding embeddings expert
    experts ffn forward fp8 hash hc id ids image images indices init initializer intermediate layernorm linear
    lm losses mamba mlp moe mrope mtp nextn ngram norm pad pdrop ple prob processor projector prompt quant
    quantization rope rotary router routed ssm std token tokens tp upcast video vision vocab weights
    """
)
"""Words that say that a name is about something else: experts, state spaces, positions, dropout."""

READ = _words(
    """
    add_full_attention_sink_bias add_swa_attention_sink_bias att_impl_type attention_chunk_size
    attention_head_dim attention_head_size attention_heads attention_k_eq_v attention_multiplier
    attention_other_setting attention_window_size attn_layer_indices attn_layer_offset attn_layer_period
    attn_logit_softcapping attn_type_list block_types full_attention_interval full_attn_idxs
    global_attn_every_n_layers global_head_dim head_dim hybrid_layer_pattern hybrid_override_pattern kv_channels
    kv_lora_rank layer_switch layer_types layers_block_type max_window_layers multi_query n_head n_head_kv
    n_heads num_attention_groups num_attention_heads num_attention_heads_per_layer num_global_key_value_heads
    num_key_value_heads num_kv_heads num_kv_shared_layers num_query_groups num_sliding_attention_heads
    order_of_interleaved_layers per_layer_config query_pre_attn_scalar sliding_window sliding_window_pattern
    _sliding_window_pattern sliding_window_size swa_head_dim swa_num_attention_heads swa_num_key_value_heads
    swa_v_head_dim head_dim_v use_bidirectional_attention use_sliding_window v_head_dim is_causal is_decoder
    is_encoder_decoder cross_attention_layers block_configs
    """
)
"""The fields that are read, or refused with a reason of their own."""

HARMLESS = _words(
    """
    _attn_implementation first_k_dense_replace _attn_implementation_internal attention_in_multiplier
    attention_out_bias attention_out_multiplier attention_softmax_in_fp32 attention_value_scale
    attn_implementation attn_output_gate attn_pdrop block_auto_adjust_ff_dim block_ffn_dim_multiplier
    block_multiple_of chunk_size_feed_forward chunk_size_lm_head decoder_sparse_step final_logit_softcapping
    key_multiplier head_wise_attn_gate mlp_layer_types num_local_experts qkv_bias rope_local_base_freq
    scale_attention_softmax_in_fp32 skip_embeddings swa_rope_theta topk_group topk_method use_attention_gate
    use_gated_attention use_head_wise_attn_gate use_qk_norm use_qkv_bias v_proj norm_topk_prob local_rope_theta
    global_rope_theta rope_theta_local lm_head_bias chunk_size mamba_chunk_size attention_probs_dropout_prob
    attention_dropout attention_bias attn_bias attn_dropout moe_layer_interval activation_sparsity_pattern
    moe_router_logit_softcapping add_cross_attention num_shared_experts n_shared_experts
    shared_expert_combination_strategy share_expert_dim shared_expert_intermediate_size qk_layernorm
    no_rope_layer_interval top_k cross_attention_hidden_size pruned_heads _attn_implementation_autoset
    _flash_attn_2_enabled use_flash_attn use_flash_attention flash_attention use_sdpa kv_cache_dtype
    """
)
"""Known to change no layer: the score of a query and a key, and what is in sight, stay what they are."""

GATES = {"cla_share_factor": "use_cla", "window_size": "use_window", "sliding_window_list": "use_sliding_window"}
"""Fields that count only where another one is true."""


_CORE = frozenset({"att", "attn", "attention", "kv", "head", "heads", "query", "queries", "mixer", "mixers"})
"""Words of lists and objects that may say of single layers what they are, whatever else the name is about."""


def sounds_like_attention(name: str) -> bool:
    """Whether a field of this name may change attention."""
    lowered = name.lower()
    words = set(lowered.split("_"))
    return STRONG.search(lowered) is not None or (bool(words & WORDS) and not words & ELSEWHERE)


def refuse_unread(text: Fields, harmless: Collection[str]) -> None:
    """Refuse the first field that sounds like attention, is set, and is neither read nor harmless.

    Null, false, zero and what is empty set nothing.
    """
    for name, value in text.data.items():
        known = name in READ or name in HARMLESS or name in harmless
        gate = GATES.get(name)
        gated = gate is not None and gate in text.data and not text.data[gate]
        structured = isinstance(value, dict | list) and bool(set(str(name).lower().split("_")) & _CORE)
        if value and not known and not gated and (structured or sounds_like_attention(str(name))):
            text.refuse(name, value, "none: this field sounds like attention, and attnconf does not know its meaning")
