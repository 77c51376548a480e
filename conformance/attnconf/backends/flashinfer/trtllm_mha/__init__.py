"""trtllm_mha: FlashInfer's TensorRT-LLM attention kernels, called as serving engines call them."""

from attnconf.backends.flashinfer.trtllm_mha.backend import TrtllmMha, make

__all__ = ["TrtllmMha", "make"]
