"""sglang 0.5.23 on images: its masks as Gemma 4's model makes them, their faults, and transformers' masks beside."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from attnconf.cases.inputs.assemble import assemble
from attnconf.cases.inputs.layout import place
from attnconf.cases.inputs.logical import make_logical
from attnconf.cases.request import Request
from attnconf.cases.sight import seen
from attnconf.judging.result import Outcome
from ci.engines.tests.conftest import FINDINGS

if TYPE_CHECKING:
    from attnconf.backends.protocol import Backend
    from attnconf.cases.case import Case
    from ci.engines.tests.conftest import Finding, Judge

IMAGES = {
    "sglang-triton-image-block": (0, "spans"),
    "sglang-triton-image-full-layers": (1, "a causal layer follows the spans of others"),
    "sglang-triton-image-cut": (0, "the tokens of a span see each other causally"),
}
"""The layer on which each finding about images shows, and what is said of it."""


@pytest.mark.parametrize("name", IMAGES)
def test_the_findings_about_images_hold(
    name: str, triton: Backend, trtllm_mha: Backend, judge: Judge, finding: Finding
) -> None:
    index, said = IMAGES[name]
    layers = judge(triton, finding(name)).layers
    assert [layer.outcome is Outcome.FAILED for layer in layers] == [layer == index for layer in range(len(layers))]
    assert layers[index].failures[0].clause == 1
    assert said in layers[index].failures[0].suspicion
    declined = judge(trtllm_mha, finding(name)).layers[0]
    assert declined.outcome is Outcome.UNSUPPORTED
    assert "masks of images" in declined.reason


def test_an_image_within_a_block_and_a_chunk_is_followed_in_sliding_layers(
    triton: Backend, judge: Judge, finding: Finding
) -> None:
    asked = finding("sglang-triton-image-cut").model_copy(
        update={"requests": (Request(prefix_len=10, new_tokens=28, spans=((14, 26), (30, 34))), Request(new_tokens=5))}
    )
    (layer,) = judge(triton, asked).layers
    assert layer.worst_units < 1


def transformers_masks(asked: Case, bidirectional: str | None) -> dict[str, torch.Tensor]:
    """Return transformers' masks of the one prompt of ``asked``, by kind of layer, [tokens, tokens] bool."""
    transformers = importlib.import_module("transformers")  # behind sglang: it imports Triton, to be interpreted there
    model = importlib.import_module("transformers.models.gemma4.modeling_gemma4").Gemma4ForConditionalGeneration
    (request,) = asked.requests
    tokens = request.kv_len
    types = torch.zeros(1, tokens, dtype=torch.long)
    for begin, end in request.spans:
        types[:, begin:end] = 1  # tokens of an image
    window = max(layer.window_left for layer in asked.layers) + 1
    text = transformers.Gemma4TextConfig(use_bidirectional_attention=bidirectional, sliding_window=window)
    made = model.create_masks_for_generate(
        config=transformers.Gemma4Config(text_config=text, attn_implementation="sdpa"),
        inputs_embeds=torch.zeros(1, tokens, 8),
        attention_mask=None,
        past_key_values=None,
        position_ids=torch.arange(tokens)[None],
        mm_token_type_ids=types,
    )
    causal = torch.ones(tokens, tokens, dtype=torch.bool).tril()  # what None stands for
    return {kind.removesuffix("_attention"): causal if mask is None else mask[0, 0] for kind, mask in made.items()}


def test_sglang_hands_full_layers_the_mask_that_transformers_makes_for_sliding_ones(
    triton: Backend, finding: Finding
) -> None:
    asked = finding("sglang-triton-image-full-layers")
    masks = transformers_masks(asked, "vision")
    for layer in asked.layers:
        rows = [seen(layer, asked.requests[0], row) for row in range(asked.requests[0].new_tokens)]
        keys = torch.arange(len(rows))
        right = torch.stack([(keys >= row.first) & (keys <= row.last) for row in rows])
        assert masks[layer.kind].equal(right), "the oracle's rule is that of transformers"
    prepared = triton.prepare(assemble(asked, place(asked), make_logical(asked), torch.device("cpu")))
    engine = prepared.engines[1]  # type: ignore[attr-defined]
    handed = engine.backend.forward_metadata.custom_mask.view_as(masks["full"])
    assert handed.equal(masks["sliding"])
    assert not handed.equal(masks["full"])
    small = transformers_masks(asked, None)  # E2B and E4B, whose configuration says null
    assert small["sliding"].equal(masks["full"])
    assert small["full"].equal(masks["full"])


def test_the_script_of_the_page_on_full_layers_prints_what_the_page_says() -> None:
    page = (FINDINGS / "sglang-triton-image-full-layers.md").read_text(encoding="utf-8")
    script, said = (page.partition(f"```{kind}\n")[2].partition("```")[0] for kind in ("python", "text"))
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603 - ours
    assert ran.stdout == said
