"""How peers compare: every tolerance of this benchmark, as facts with their source. None of them is attnconf's."""

from __future__ import annotations

from ci.benchmarks.peerstyles.cell import Tolerance

# flashinfer-ai/flashinfer at fb28d7242b3506a2348265962041acc1fb56cca4
_TRTLLM_LSE = (3e-3, 1e-3)
# tests/attention/test_trtllm_gen_attention_decode.py, _prefill.py: a comparison of our own with NaN counts as equal,
# and a share of mismatches is forgiven; doubled for several query tokens a request.
TRTLLM_DECODE = Tolerance(atol=1e-2, rtol=1e-2, forgiven=5e-5, nan_passes=True, lse=_TRTLLM_LSE)
TRTLLM_PREFILL = Tolerance(atol=1e-2, rtol=1e-2, forgiven=1e-7, nan_passes=True)
# tests/attention/test_xqa_batch_decode.py
XQA_DECODE = Tolerance(atol=1e-2, rtol=1e-2)
XQA_DECODE_FP8 = Tolerance(atol=1e-1, rtol=1e-1)
XQA_CODED = Tolerance(atol=5e-2, rtol=2e-2)
# tests/attention/test_xqa.py: 98 of 100 elements within one of the two
XQA = Tolerance(atol=1e-2, rtol=1e-2, forgiven=0.02, either=True)
XQA_FP8 = Tolerance(atol=5e-2, rtol=5e-2, forgiven=0.02, either=True)
# tests/attention/test_fmha_v2_prefill.py
FMHA_V2 = Tolerance(atol=1e-2, rtol=1e-2, lse=(1e-2, 1e-2))
# tests/attention/test_sliding_window.py, test_batch_decode_kernels.py, test_batch_prefill_kernels.py
FA2 = Tolerance(atol=1e-3, rtol=1e-3)
# tests/attention/test_attention_sink_blackwell.py
SINK_FP16 = Tolerance(atol=1e-3, rtol=1e-3)
SINK_FP16_CONTEXT = Tolerance(atol=2e-3, rtol=1e-3)
SINK_BF16 = Tolerance(atol=1e-2, rtol=1e-2)
# tests/attention/test_modular_fmha_prefill_paged.py: paged = ragged, bit for bit
MODULAR = Tolerance(bitwise=True)

# vllm-project/vllm
# tests/kernels/attention/test_flashinfer_trtllm_attention.py at 02a0747f5ae7f075ef45fbcb2aa2c17480c71fb0
VLLM_TRTLLM = Tolerance(atol=1e-2, rtol=1e-2)
VLLM_TRTLLM_FP8 = Tolerance(atol=6e-2, rtol=4e-2)
# tests/kernels/attention/test_triton_unified_attention.py at 003ee61625d33ae27df77f97748cb5867d0747b6
VLLM_UNIFIED = Tolerance(atol=1.5e-2, rtol=1e-2)
# tests/kernels/attention/test_flashinfer.py at 024566185d8b30403e7abe82362d99f72ada9b17
VLLM_FLASHINFER = Tolerance(atol=1e-2, rtol=1e-2)
VLLM_FLASHINFER_PREFILL = Tolerance(atol=5e-2, rtol=1e-2)
# tests/v1/attention/test_attention_backends.py at 01d81482031f964dc387b1247de2eae07f235982
VLLM_BACKENDS = Tolerance(atol=1e-2, rtol=1e-2)

# sgl-project/sglang
# sglang/test/kits/attention_unittest of the wheel 0.5.23
SGLANG_KIT = Tolerance(atol=3e-2, rtol=3e-2)
# test/registered/attention/test_triton_attention_kernels.py at 00f6b516ebdcc85637a20687d236014c6a281bd0
SGLANG_EXTEND = Tolerance(atol=1e-3, rtol=1e-2)
SGLANG_EXTEND_WINDOW = Tolerance(atol=1e-3, rtol=1e-3)
SGLANG_DECODE = Tolerance(atol=1e-2, rtol=1e-2)
SGLANG_GROUPED = Tolerance(atol=3e-2, rtol=1e-5)
# test/registered/attention/test_trtllm_mha_xqa_spec_decode.py at 0c8b3ef3df562578d385cff5efe352271b383144
SGLANG_SPEC = Tolerance(atol=6e-2, rtol=6e-2)

# NVIDIA/TensorRT-LLM tests/unittest/_torch/attention/attention_test_harness.py at
# 23f7414f457c46ab85718b57541f5ff1e0643066; the golden keeps K and V in the compute dtype
TENSORRT_FP16 = Tolerance(atol=1e-2, rtol=1e-3)
TENSORRT_BF16 = Tolerance(atol=3e-2, rtol=3e-3)
TENSORRT_FP8 = Tolerance(atol=4e-1 + 3e-2, rtol=3e-3)
