"""sglang's choice of a backend: its own resolution steps, with platform facts from its own probes.

Read from sglang 0.5.23. ``arg_groups/pipeline.py`` runs many steps over a ``ServerArgs``. The steps that read or write
the attention backend of a decoder with grouped heads on an NVIDIA GPU run here, in the same order:

- ``handle_model_specific_adjustments``, which collects the registered overrides of a model family
  (``arg_groups/model_overrides``)
- ``handle_attention_backend_compatibility``, which fills open settings and refuses what cannot run
- ``_page_size_default`` and ``handle_speculative_decoding``, which refuses some trees of draft tokens

The steps for other hardware (also for machines without a GPU), for memory and for files do not run. Only the facts of
the machine and the model's configuration are replaced: these steps read its architecture, its kind of attention
(grouped heads), and that it is not quantised.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from functools import cache
from itertools import product
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from attnconf.backends.engines.absent import stand_ins
from attnconf.backends.engines.quiet import quiet
from attnconf.cases.dtypes import E5M2, FP8, NVFP4
from attnconf.errors import BackendUnavailableError
from attnconf.policy.axes import question_text
from attnconf.policy.drift.engine import Answer, Scope

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnconf.platforms import Platform
    from attnconf.policy.question import Question

_IMAGES = "torchvision"
"""Imported by sglang's multimodal code, which these steps never call; it would need torch with CUDA."""

_STEPS = ("overrides", "model_hook", "attention_hook", "speculative_hook", "model_override_base")
_REFUSALS = (ValueError, AssertionError, NotImplementedError)
_KV_DTYPES = {FP8: "fp8_e4m3", E5M2: "fp8_e5m2", NVFP4: "fp4_e2m1"}

_CHAIN, _TREE = (4, 1), (8, 4)
"""The query tokens and the width of a chain and of a tree of draft tokens."""


class SGLang:
    """The installed sglang. Raises ``BackendUnavailableError`` when it or one of its steps is missing."""

    name = "sglang"
    scope = Scope(
        drafts=tuple((name, *tokens) for name, tokens in product(("EAGLE", "FROZEN_KV_MTP"), (_CHAIN, _TREE))),
        others=("fa3", "fa4"),
        settings={"page_size": (None, 16)},
    )

    def __init__(self) -> None:
        try:
            self.version = importlib.metadata.version("sglang")
        except importlib.metadata.PackageNotFoundError:
            message = "sglang is not installed; make drift installs it in an environment of its own"
            raise BackendUnavailableError(message) from None
        try:
            with quiet(), stand_ins(_IMAGES):
                self._load()
        except (ImportError, AttributeError) as error:
            message = f"sglang {self.version} cannot be asked: {type(error).__name__}: {error}"
            raise BackendUnavailableError(message) from None

    def _load(self) -> None:
        groups = {name: importlib.import_module(f"sglang.srt.arg_groups.{name}") for name in _STEPS}
        self._server_args = importlib.import_module("sglang.srt.server_args").ServerArgs
        self._context = importlib.import_module("sglang.srt.runtime_context")
        self._grouped_heads = importlib.import_module("sglang.srt.configs.model_config").AttentionArch.MHA
        self._probes = importlib.import_module("sglang.srt.utils.common")
        base, overrides = groups["model_override_base"], groups["overrides"]
        self._sides, self._view = base.attention_backends_of, base.resolved_view
        page_size = overrides._page_size_default  # noqa: SLF001 - the engine's own step
        self._steps = (
            groups["model_hook"].handle_model_specific_adjustments,
            groups["attention_hook"].handle_attention_backend_compatibility,
            lambda args: overrides.run_post_process_pass(args, page_size),
            groups["speculative_hook"].handle_speculative_decoding,
        )
        self.facts = cache(self._facts)

    def answer(self, question: Question) -> Answer:
        """Return sglang's choice; its ``ValueError``, ``AssertionError`` or ``NotImplementedError`` is a refusal.

        Raises ``BackendUnavailableError`` for a machine without a GPU, and when a step fails in another way: then the
        step needs more than it gets here, and its answer would be worthless.
        """
        args = self._arguments(question)
        try:
            with quiet(), self._context.override_platform(**self.facts(*_machine(question.platform))):
                for step in self._steps:
                    step(args)
                prefill, decode = self._sides(self._view(args))
        except _REFUSALS as error:
            return Answer(refusal=str(error) or type(error).__name__)
        except Exception as error:
            asked = question_text(question)
            message = f"sglang {self.version} cannot be asked about {asked}: {type(error).__name__}: {error}"
            raise BackendUnavailableError(message) from error
        return Answer(prefill=prefill, decode=decode)

    def _arguments(self, question: Question) -> Any:  # noqa: ANN401 - sglang's ServerArgs
        user = question.user
        drafts = question.speculative != "none"
        args = self._server_args(
            model_path=question.architecture,
            device="cuda",
            attention_backend=user.attention,
            prefill_attention_backend=user.prefill,
            decode_attention_backend=user.decode,
            page_size=question.page_size,
            kv_cache_dtype=_KV_DTYPES.get(question.kv_dtype, "auto"),
            speculative_algorithm=question.speculative if drafts else None,
            speculative_num_steps=3 if drafts else None,
            speculative_eagle_topk=question.topk if drafts else None,
            speculative_num_draft_tokens=question.q_len if drafts else None,
        )
        args._resolved_overrides = []  # noqa: SLF001 - the pipeline's first step
        args._model_config = SimpleNamespace(  # noqa: SLF001 - read instead of the model's file
            hf_config=SimpleNamespace(architectures=[question.architecture]),
            quantization=None,
            decision_config=None,
            is_encoder_decoder=False,
            attention_arch=self._grouped_heads,
        )
        return args

    def _facts(self, sm: tuple[int, int], cuda: str) -> Mapping[str, bool]:
        """Return the platform facts of sglang's own probes for a compute capability and a CUDA version."""
        import torch

        probes = self._probes
        with (
            mock.patch.object(probes, "is_cuda", return_value=True),
            mock.patch.object(probes, "get_device_sm", return_value=sm[0] * 10 + sm[1]),
            mock.patch.object(torch.version, "cuda", cuda),
        ):
            facts = {
                fact: getattr(probes, probe).__wrapped__()  # without its cache of this machine's facts
                for fact, probe in self._context._PLATFORM_PROBES.items()  # noqa: SLF001 - the engine's own table
                if fact.startswith("is_sm") or fact in {"is_blackwell", "is_hopper_with_cuda_12_3"}
            }
        return {**facts, "is_cuda": True}


def _machine(platform: Platform) -> tuple[tuple[int, int], str]:
    if platform.sm is None or platform.cuda is None:
        message = "sglang is asked about NVIDIA GPUs with CUDA only; other hardware takes other steps"
        raise BackendUnavailableError(message)
    return platform.sm, platform.cuda
