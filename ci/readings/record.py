"""Record: the attention layers of every language model of the installed transformers, by its own code.

    python -m ci.readings.record FILE

For each model type with a head for causal or multimodal language modelling, its default configuration is written as
``config.json`` is, its model is built and run by the probe, and one line with both goes to FILE. Needs transformers.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = "attnconf.readings/1"
_DECODERS = (
    *("bert", "bert-generation", "big_bird", "camembert", "data2vec-text", "electra", "ernie", "git", "megatron-bert"),
    *("rembert", "roberta", "roberta-prelayernorm", "roc_bert", "roformer", "xlm-roberta", "xlm-roberta-xl", "xmod"),
)
_ROPE = {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}}
_STEP = ["full_attention", "sliding_attention", "sliding_attention"]
"""Its first three layers: the experts of the others need data."""

COMPLETED: dict[str, dict[str, Any]] = {
    **{name: {"is_decoder": True} for name in _DECODERS if name not in {"big_bird", "git"}},
    "bamba": {"attn_layer_indices": [9, 18, 27]},
    "big_bird": {"is_decoder": True, "attention_type": "original_full"},
    "chameleon": {"vocabulary_map": {"<image>": 4}},
    "cohere_compass": {"text_config": _ROPE},
    "cohere_compass_text": _ROPE,
    "dots1": {"n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    "granitemoehybrid": {"num_hidden_layers": 4, "layer_types": ["mamba", "mamba", "attention", "mamba"]},
    "hunyuan_v1_dense": {"head_dim": 128, "num_key_value_heads": 8},
    "hunyuan_v1_moe": {"head_dim": 128, "num_key_value_heads": 8},
    "hunyuan_vl": {"text_config": {"head_dim": 128, "num_key_value_heads": 8}},
    "lfm2_moe": {"num_hidden_layers": 4, "layer_types": ["conv", "conv", "full_attention", "conv"]},
    "ministral": {"head_dim": 128},
    "nemotron": {"num_key_value_heads": 8, "head_dim": 128},
    "emu3": {"vocabulary_map": {"<|extra_200|>": 4, "<image>": 5}, "pad_token_id": 0},
    "granite4_vision": {"deepstack_layer_map": [], "downsample_rate": "4/8"},
    "step3p7": {"text_config": {"sliding_window": 512, "num_hidden_layers": 3, "layer_types": _STEP}},
    "xmod": {"is_decoder": True, "default_language": "en_XX"},
}
"""What is added to default values that are no causal model: transformers divides by None with them, or encodes."""

_PROCESSES = 3
_TOKENS = 5
_NO_TEXT = ("vision", "visual", "audio", "talker", "code2wav", "token2wav")
"""Parts of the names of modules that are not of the text model."""

_ELSEWHERE = ("vision", "visual", "audio", "image", "speech", "vq", "qformer", "codec", "backbone", "talker", "depth")
"""Words of objects that configure something else than the text model."""

_NOISE = ("id2label", "label2id", "transformers_version", "_name_or_path", "output_attentions", "output_hidden_states")
_HEADS = (
    "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
    "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES",
    "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES",
)


def model_types() -> list[str]:
    """Return every model type with a head for language, sorted."""
    from transformers.models.auto import modeling_auto

    return sorted({name for table in _HEADS for name in getattr(modeling_auto, table)})


def _is_elsewhere(key: str) -> bool:
    return any(word in key for word in _ELSEWHERE)


def written(config: Any) -> dict[str, Any]:
    """Return ``config.json`` with all values, without what is the same everywhere and without vision and audio."""
    data = json.loads(config.to_json_string(use_diff=False))

    def lean(block: dict[str, Any]) -> dict[str, Any]:
        kept = {key: value for key, value in block.items() if key not in _NOISE}
        kept = {key: value for key, value in kept.items() if not (isinstance(value, dict) and _is_elsewhere(key))}
        return {key: lean(value) if isinstance(value, dict) else value for key, value in kept.items()}

    return lean(data)


def record(model_type: str) -> dict[str, Any]:
    """Return what is known of one type: its configuration and its layers, or why there are none."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    warnings.filterwarnings("ignore")
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from ci.readings.probe import NAME, install

    transformers.logging.set_verbosity(50)
    if not getattr(transformers, "_attnconf_installed", False):
        transformers._attnconf_installed = True
        install()
    line: dict[str, Any] = {"model_type": model_type, "added": COMPLETED.get(model_type, {})}
    try:
        config = CONFIG_MAPPING[model_type](**line["added"])
        line["config"] = written(config)
    except Exception as error:  # noqa: BLE001 - any code of transformers
        return {**line, "error": f"its default configuration raises {_said(error)}"}
    _choose(config, NAME)
    errors, best = [], None
    for model_class, settings in _candidates(model_type, config):
        try:
            _admit(model_class, NAME)
            with torch.device("meta"):
                model = model_class(settings)
            _choose(model.config, NAME)
            model.eval()
        except Exception as error:  # noqa: BLE001
            errors.append(f"{model_class.__name__} cannot be built: {_said(error)}")
            continue
        for cached in (True, False):
            found = _run(model, use_cache=cached)
            if isinstance(found, str):
                errors.append(found)
            else:
                return {**line, "class": model_class.__name__, **found}
        if best is None and (layers := _modules(model)):
            best = {"class": model_class.__name__, "by": "modules", "layers": layers}
    if best is not None:
        return {**line, **best, "error": errors[0]}
    return {**line, "error": errors[0] if errors else "it has no model"}


def _said(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]


def _candidates(model_type: str, config: Any) -> Iterator[tuple[Any, Any]]:
    import transformers
    from transformers.models.auto import modeling_auto

    def classes(name: str) -> Iterator[Any]:
        for table in (*reversed(_HEADS), "MODEL_MAPPING_NAMES"):
            names = getattr(modeling_auto, table).get(name)
            for one in (names,) if isinstance(names, str) else names or ():
                if hasattr(transformers, one):
                    yield getattr(transformers, one)

    yield from ((one, config) for one in classes(model_type))
    thinker = getattr(config, "thinker_config", None)  # of models that also speak
    if thinker is not None:
        yield from ((one, thinker) for one in classes(thinker.model_type))
    text = config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config
    if text is not config:
        yield from ((one, text) for one in classes(text.model_type))


def _choose(config: Any, name: str) -> None:
    """Make every part of ``config`` use our attention function, and experts that need no data."""
    config._attn_implementation = name
    config._experts_implementation = "batched_mm"
    for part in getattr(config, "sub_configs", None) or {}:
        if getattr(config, part, None) is not None:
            _choose(getattr(config, part), name)


def _admit(model_class: Any, name: str) -> None:
    """Let modules that have a class for each implementation take the eager one's for ours, as in some vision towers."""
    for table in vars(sys.modules[model_class.__module__]).values():
        if isinstance(table, dict) and "eager" in table:
            table.setdefault(name, table["eager"])


def _run(model: Any, *, use_cache: bool) -> dict[str, Any] | str:
    """Return the layers that ``model`` calls in one forward pass, or why it has none."""
    import torch

    from ci.readings.probe import RECORDER

    tokens = torch.zeros(1, _TOKENS, dtype=torch.long, device="meta")
    said = ""
    for part in (
        lambda: model,
        lambda: model.get_decoder(),  # noqa: PLW0108 - it may have none
        lambda: model.model.language_model,
    ):
        RECORDER.clear()
        try:
            with torch.no_grad():
                part()(input_ids=tokens, use_cache=use_cache)
        except Exception as error:  # noqa: BLE001 - any code of transformers
            said = said or f"{type(model).__name__} cannot be run: {_said(error)}"
            continue
        if RECORDER.calls:
            return {"by": "calls", "layers": RECORDER.calls}
        if RECORDER.cached:
            return {"by": "cache", "cached": RECORDER.cached, "layers": []}
        return {"by": "calls", "layers": [], "modules": _names(model)}
    return said


def _names(model: Any) -> list[str]:
    return sorted({type(one).__name__ for one in model.modules() if "attention" in type(one).__name__.lower()})


def _modules(model: Any) -> list[dict[str, Any]]:
    """Return the attention layers that the modules of a model that does not run are made for."""
    found = []
    for name, module in model.named_modules():
        q_proj, k_proj, head_dim = (getattr(module, one, None) for one in ("q_proj", "k_proj", "head_dim"))
        if (
            getattr(module, "layer_idx", None) is None
            or any(part in name for part in _NO_TEXT)
            or not isinstance(head_dim, int)
        ):
            continue
        if getattr(q_proj, "weight", None) is None or getattr(k_proj, "weight", None) is None:
            continue
        window = getattr(module, "sliding_window", None)
        hidden = window is None and getattr(getattr(module, "config", None), "sliding_window", None)
        found.append(
            {
                "layer": module.layer_idx,
                "module": type(module).__name__,
                "num_qo_heads": q_proj.weight.shape[0] // head_dim,
                "num_kv_heads": k_proj.weight.shape[0] // head_dim,
                "head_dim": head_dim,
                "head_dim_v": head_dim,
                "scale": getattr(module, "scaling", None),
                "soft_cap": None,
                "sinks": any("sink" in one for one, _ in module.named_parameters(recurse=False)),
                "sees": {"unknown": "its module has no window of its own"} if hidden else {"window": window},
                "window": window,
                "owner": None,
                "extra": [],
            }
        )
    return found


def packed(line: dict[str, Any]) -> dict[str, Any]:
    """Return a line in which equal layers are written once: ``kinds``, and for each layer the place of its own."""
    layers = line.pop("layers", [])
    kinds: list[Any] = []
    order = []
    for layer in layers:
        kind = {key: value for key, value in layer.items() if key not in {"layer", "owner"}}
        if kind not in kinds:
            kinds.append(kind)
        order.append(kinds.index(kind))
    owners = {str(i): layer["owner"] for i, layer in enumerate(layers) if layer["owner"] is not None}
    places = [layer["layer"] for layer in layers]
    return {**line, "kinds": kinds, "order": order, "places": places, "owners": owners}


def line_of(model_type: str) -> str:
    """Return the record of one type as a line of JSON."""
    try:
        found = packed(record(model_type))
    except Exception as error:  # noqa: BLE001 - whatever its code raises, the others are recorded
        found = packed({"model_type": model_type, "added": {}, "error": _said(error)})
    return json.dumps(found, sort_keys=True, separators=(",", ":"))


def main(file: str) -> None:
    """Write the records of all types to ``file``; those that a run before has written there are kept."""
    import transformers

    types = model_types()
    head = json.dumps({"schema": SCHEMA, "transformers": transformers.__version__, "types": len(types)})
    path = Path(file)
    kept = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    done = {json.loads(line)["model_type"]: line for line in kept[1:]} if kept[:1] == [head] else {}
    left = [one for one in types if one not in done]
    with multiprocessing.get_context("spawn").Pool(_PROCESSES, maxtasksperchild=40) as pool:
        for model_type, line in zip(left, pool.imap(line_of, left), strict=True):
            done[model_type] = line
            path.write_text("\n".join((head, *(done[one] for one in types if one in done))) + "\n", encoding="utf-8")
    print(f"{file}: {len(done)} model types of transformers {transformers.__version__}")


if __name__ == "__main__":
    main(sys.argv[1])
