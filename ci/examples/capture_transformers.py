"""A tiny Gemma 4 with random weights is served by transformers' continuous batching on a CPU, captured, and judged.

    make capture

Every step's attention calls become case files; then ``attnconf replay`` asks backends the same. No weights are loaded.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import torch
from transformers import ContinuousBatchingConfig, Gemma4ForCausalLM, Gemma4TextConfig, GenerationConfig

from attnconf import capturing

WINDOW = 24
VOCABULARY = 64
PROMPTS = (40, 3, 17, 66, 17, 1, 31, 9)
"""Tokens of each prompt: below, at and beyond the window, and beyond a page."""


def tiny_gemma4() -> Gemma4ForCausalLM:
    """Return a Gemma 4 of six small layers, sliding and full ones, of which the last three read others' keys.

    All have one head dim: the continuous batching of transformers 5.24 refuses the two of the real models.
    """
    config = Gemma4TextConfig(
        vocab_size=VOCABULARY,
        vocab_size_per_layer_input=VOCABULARY,
        hidden_size=32,
        hidden_size_per_layer_input=8,
        intermediate_size=48,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        global_head_dim=32,
        sliding_window=WINDOW,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"] * 2,
        num_kv_shared_layers=3,
        max_position_embeddings=256,
        pad_token_id=0,
        eos_token_id=None,
        bos_token_id=1,
    )
    torch.manual_seed(0)
    model = Gemma4ForCausalLM(config).eval()
    model.set_attn_implementation("sdpa")
    return model


def serve(model: Gemma4ForCausalLM) -> int:
    """Serve the prompts in one go; return how many requests were answered."""
    inputs = [[(7 * place + length) % (VOCABULARY - 2) + 2 for place in range(length)] for length in PROMPTS]
    settings = GenerationConfig(max_new_tokens=6, do_sample=False, eos_token_id=-1, pad_token_id=0)
    memory = ContinuousBatchingConfig(page_size=16, num_blocks=40, max_batch_tokens=64, use_async_batching=False)
    answers = model.generate_batch(
        inputs=inputs, generation_config=settings, continuous_batching_config=memory, progress_bar=False
    )
    return len(answers)


def main() -> int:
    """Serve, capture and judge; return the status of ``attnconf replay``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="build/capture-transformers", help="the cases' folder")
    parser.add_argument("--backend", action="append", default=[], help="judge these backends (reference)")
    arguments = parser.parse_args()
    folder = Path(arguments.out)
    model = tiny_gemma4()
    with torch.inference_mode(), capturing("transformers", folder, most=40) as captured:
        answered = serve(model)
    print(f"transformers answered {answered} of {len(PROMPTS)} requests")
    print("\n".join(captured.lines), flush=True)
    if answered != len(PROMPTS) or not captured.kept:
        return 1
    backends = [f"--backend={name}" for name in arguments.backend or ["reference"]]
    command = [sys.executable, "-m", "attnconf", "replay", str(folder), *backends]
    return subprocess.run(command, check=False).returncode  # noqa: S603 - our own command


if __name__ == "__main__":
    sys.exit(main())
