"""vLLM's choice of a backend: its own selector and model hooks, on a simulated platform.

Read from vLLM 0.33.0. The steps that decide the backend of a decoder layer on an NVIDIA GPU run here, in vLLM's order:

- the convertor of the model's configuration (``transformers_utils/model_arch_config_convertor.py``), for the head dims
  by layer, and for whether the tokens of an image see each other in both directions
- ``verify_and_update_config`` of the architecture (``model_executor/models/config.py``)
- ``get_attn_backend`` for one sliding and one full layer (``v1/attention/selector.py``, ``platforms/cuda.py``)
- the constructor of the chosen implementation, which refuses some choices of the selector. The constructors of
  FlashInfer are not called: they allocate GPU memory, and accept every decoder layer without sinks.

vLLM has one backend for prefill and decode, so the user names one for both. It has only chains of draft tokens.

Three things are replaced: the platform's capability, since there is no GPU; the configuration, by the defaults of
vLLM's command line; and vLLM's compiled extensions and FlashInfer, by stand-ins (``backends.engines.absent``), since
these steps import them without calling them. FlashAttention 2, 3 and 4 count as installed because vLLM's wheel ships
them, and FlashInfer because it depends on it. vLLM has one platform per process, and its modules keep it: afterwards
the process cannot run vLLM, and a process that has imported vLLM before cannot be used here (sglang imports an
installed vLLM).
"""

from __future__ import annotations

import importlib
import importlib.metadata
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from attnconf.backends.engines.absent import stand_ins
from attnconf.backends.engines.quiet import quiet
from attnconf.cases.dtypes import E5M2, FP8, NVFP4
from attnconf.errors import BackendUnavailableError
from attnconf.policy.axes import question_text
from attnconf.policy.drift.engine import Answer, Scope

if TYPE_CHECKING:
    from attnconf.policy.question import Mask, Question

_STOOD_IN = (
    "flashinfer",
    "vllm._C_stable_libtorch",
    "vllm._moe_C_stable_libtorch",
    "vllm._qutlass_C",
    "vllm.vllm_flash_attn._vllm_fa2_C",
    "vllm.vllm_flash_attn._vllm_fa3_C",
)
_NAMES = {
    "vllm:triton": "TRITON_ATTN",
    "vllm:flash_attn": "FLASH_ATTN",
    "vllm:flashinfer": "FLASHINFER",
    "vllm:triton_flash_attn": "TRITON_FLASH_ATTN",
    "vllm:triton_flashinfer": "TRITON_FLASHINFER",
    "vllm:flex": "FLEX_ATTENTION",
    "vllm:turboquant": "TURBOQUANT",
}
"""The selector's backends by their names in policies. They are loaded first, since the selector skips broken ones."""

_OF_VLLM = {theirs: ours for ours, theirs in _NAMES.items()}
_ON_GPU = ("FLASHINFER", "TRITON_FLASHINFER")
"""Backends whose constructors need a GPU."""

_MODEL_TYPES = {
    "Gemma4ForCausalLM": "gemma4_text",
    "Gemma4ForConditionalGeneration": "gemma4",
    "Gemma4UnifiedForConditionalGeneration": "gemma4_unified",
    "DiffusionGemmaForBlockDiffusion": "diffusion_gemma",
}
_REFUSALS = (ValueError, NotImplementedError)
_KV_DTYPES = {FP8: "fp8", E5M2: "fp8_e5m2", NVFP4: "nvfp4"}


class VLLM:
    """The installed vLLM. Raises ``BackendUnavailableError`` when it or one of its steps is missing."""

    name = "vllm"
    scope = Scope(
        drafts=(("mtp", 4, 1),),
        others=("vllm:flex",),
        sides=False,
        settings={"mask": ("causal", "images"), "page_size": (None, 16, 64, 128)},
    )

    def __init__(self) -> None:
        try:
            self.version = importlib.metadata.version("vllm")
        except importlib.metadata.PackageNotFoundError:
            message = "vllm is not installed; make drift installs it in an environment of its own"
            raise BackendUnavailableError(message) from None
        try:
            self._vllm = _load()
        except (ImportError, AttributeError, TypeError) as error:
            message = f"vllm {self.version} cannot be asked: {type(error).__name__}: {error}"
            raise BackendUnavailableError(message) from None

    def answer(self, question: Question) -> Answer:
        """Return vLLM's choice; its ``ValueError`` or ``NotImplementedError`` is a refusal.

        Raises ``BackendUnavailableError`` for a machine without a GPU, for settings without an option in vLLM, and when
        a step fails in another way: then the step needs more than it gets here, and its answer would be worthless.
        """
        _refuse_unaskable(question)
        try:
            with quiet():
                return self._choose(question)
        except _REFUSALS as error:
            return Answer(refusal=str(error) or type(error).__name__)
        except Exception as error:
            raise BackendUnavailableError(
                f"vllm {self.version} cannot be asked about {question_text(question)}: {type(error).__name__}: {error}"
            ) from error

    def _choose(self, question: Question) -> Answer:
        import torch

        engine = self._vllm
        engine.simulated.sm = question.platform.sm
        engine.selector._cached_get_attn_backend.cache_clear()  # noqa: SLF001 - its key has no capability
        config = self._configuration(question)
        architecture = config.model_config.model_arch_config
        engine.hooks[question.architecture].verify_and_update_config(config)
        kinds = config.model_config.hf_text_config.layer_types
        chosen = []
        with engine.config.set_current_vllm_config(config):
            for kind in ("sliding_attention", "full_attention"):
                layer = architecture[kinds.index(kind)]
                window = config.model_config.hf_text_config.sliding_window if kind == "sliding_attention" else None
                backend = engine.selector.get_attn_backend(
                    layer.head_size,
                    torch.bfloat16 if question.kv_dtype in _KV_DTYPES else getattr(torch, question.kv_dtype),
                    config.cache_config.cache_dtype,
                    use_mm_prefix=architecture.is_mm_prefix_lm,
                    has_sliding_window=window is not None,
                )
                chosen.append(backend.get_name())
                if chosen[-1] not in _ON_GPU:
                    heads, kv_heads = layer.total_num_attention_heads, layer.total_num_kv_heads
                    kv_dtype = config.cache_config.cache_dtype
                    backend.get_impl_cls()(heads, layer.head_size, 1.0, kv_heads, None, window, kv_dtype)
        sliding, full = chosen
        if sliding != full:
            raise RuntimeError(f"{sliding} for sliding layers and {full} for full ones, which a policy cannot say")
        return Answer(prefill=_OF_VLLM[full], decode=_OF_VLLM[full])

    def _configuration(self, question: Question) -> Any:  # noqa: ANN401 - a substitute for vLLM's VllmConfig
        engine, user = self._vllm, question.user.attention
        hf_config, architecture = engine.model(question.architecture, question.mask)
        speculative = SimpleNamespace(enable_adaptive_verification=engine.adaptive_verification)
        return SimpleNamespace(
            model_config=SimpleNamespace(
                model_arch_config=architecture,
                hf_config=hf_config,
                hf_text_config=hf_config.get_text_config(),
                is_mm_prefix_lm=architecture.is_mm_prefix_lm,
                rswa_window=architecture.rswa_window,
                is_diffusion=question.architecture.startswith("Diffusion"),
                dtype=None,
                override_generation_config={},
                get_head_size=lambda: architecture.head_size,
                get_num_attention_heads=lambda _: architecture.total_num_attention_heads,
                get_num_kv_heads=lambda _: architecture.total_num_kv_heads,
            ),
            attention_config=engine.config.AttentionConfig(backend=None if user is None else _NAMES.get(user, user)),
            cache_config=SimpleNamespace(
                cache_dtype=_KV_DTYPES.get(question.kv_dtype, "auto"),
                block_size=question.page_size,
                user_specified_block_size=question.page_size is not None,
            ),
            parallel_config=SimpleNamespace(prefill_context_parallel_size=1, decode_context_parallel_size=1),
            speculative_config=None if question.speculative == "none" else speculative,
            kv_transfer_config=None,
            diffusion_config=None,
            scheduler_config=None,
            compilation_config=SimpleNamespace(),
        )


@cache
def _load() -> Any:  # noqa: ANN401 - vLLM's own modules
    """Import the steps, once per process, with a platform whose capability is ``simulated.sm``."""
    simulated = SimpleNamespace(sm=(9, 0))
    with quiet(), stand_ins(always=_STOOD_IN):
        platforms: Any = importlib.import_module("vllm.platforms")
        capability = importlib.import_module("vllm.platforms.interface").DeviceCapability
        if platforms._current_platform is not None:  # noqa: SLF001 - set once, and kept by every module
            raise ImportError("it was imported before, on this machine's own platform; ask it in a process of its own")
        base = importlib.import_module("vllm.platforms.cuda").CudaPlatformBase

        class SimulatedPlatform(base):  # type: ignore[misc, valid-type]
            """An NVIDIA GPU of the simulated capability."""

            @classmethod
            def get_device_capability(cls, device_id: int = 0) -> Any:  # noqa: ANN401 - vLLM's DeviceCapability
                del device_id
                return capability(*simulated.sm)

            @classmethod
            def get_device_name(cls, device_id: int = 0) -> str:
                del device_id
                return "the asked GPU"

        platforms._current_platform = SimulatedPlatform()  # noqa: SLF001 - set once, and kept by every module
        config = importlib.import_module("vllm.config")
        registry = importlib.import_module("vllm.v1.attention.backends.registry").AttentionBackendEnum
        for name in _NAMES.values():
            registry[name].get_class()
        return SimpleNamespace(
            simulated=simulated,
            config=config,
            selector=importlib.import_module("vllm.v1.attention.selector"),
            hooks=importlib.import_module("vllm.model_executor.models.config").MODELS_CONFIG_MAP,
            adaptive_verification=config.SpeculativeConfig.enable_adaptive_verification,
            model=cache(_model),
        )


def _model(architecture: str, mask: Mask) -> tuple[Any, Any]:
    """Return a model's default configuration in transformers, and vLLM's conversion of it."""
    convertors = importlib.import_module("vllm.transformers_utils.model_arch_config_convertor")
    mapping = importlib.import_module("transformers.models.auto.configuration_auto").CONFIG_MAPPING
    model_type = _MODEL_TYPES[architecture]
    text = {"use_bidirectional_attention": "vision" if mask == "images" else None}
    made = mapping[model_type](**(text if model_type.endswith("_text") else {"text_config": text}))
    made.architectures = [architecture]
    convertor = convertors.MODEL_ARCH_CONFIG_CONVERTORS.get(model_type, convertors.ModelArchConfigConvertorBase)
    return made, convertor(made, made.get_text_config()).convert()


def _refuse_unaskable(question: Question) -> None:
    if question.platform.sm is None or question.platform.cuda is None:
        message = "vllm is asked about NVIDIA GPUs with CUDA only; other hardware takes other steps"
    elif question.architecture not in _MODEL_TYPES:
        message = f"vllm is asked about {', '.join(_MODEL_TYPES)} only, not {question.architecture}"
    elif question.topk not in (None, 1):
        message = f"vllm has no trees of draft tokens, but topk is {question.topk}"
    elif question.user.named in {"prefill", "decode", "split"}:
        message = "vllm has one backend for prefill and decode, but the user named one for a side"
    else:
        return
    raise BackendUnavailableError(message)
