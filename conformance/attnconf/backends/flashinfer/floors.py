"""Floors: the first release with each capability that some release lacks, read in the wheel of every release between.

Each is the first of the package index whose source has it, not the first that was run: ``EXECUTED`` says what was. A
refusal probe reports a floor that is too high, since the library then answers what is declared unsupported.
"""

from __future__ import annotations

from dataclasses import dataclass

from packaging.version import Version


@dataclass(frozen=True)
class Floor:
    """One capability: its first release, the pull request or issue behind it, and the source in which it shows.

    ``before`` is what a release below it does instead.
    """

    what: str
    since: Version
    origin: str
    source: str
    before: str


GEN_LSE = Floor(
    "trtllm-gen decode returns an LSE",
    Version("0.6.12"),
    "parameter lse",
    "decode.py: trtllm_batch_decode_with_kv_cache",
    "the function has no such parameter",
)
GEN_DYNAMIC_PAGES = Floor(
    "trtllm-gen reads pages of 128 tokens and more, for groups above 1",
    Version("0.6.12"),
    "flashinfer#3259",
    "fmhaKernels.cuh: useDynamicNumTokensPerPage, and list 158f6fa1",
    "no such kernel",
)
GEN_WIDE_VERIFY = Floor(
    "trtllm-gen verifies more tokens at head_dim 512",
    Version("0.6.14"),
    "flashinfer#3393",
    "fmhaKernels.cuh: syncGqaGenerationTraitsForKernelHash",
    "asks for kernels that the list does not have (flashinfer#3343, #3511)",
)
GEN_DYNAMIC_PAGES_OF_ONE = Floor(
    "trtllm-gen reads pages of 128 tokens and more, for group 1",
    Version("0.6.16"),
    "flashinfer#4095",
    "fmhaKernels.cuh: useDynamicNumTokensPerPage",
    "no such kernel (flashinfer#4094)",
)
XQA_WINDOWED_VERIFY = Floor(
    "XQA applies a window per query token",
    Version("0.6.16"),
    "flashinfer#4137, picked in c46207c23",
    "csrc/xqa/mha.cu: winBegBase; jit/xqa.py: IS_SPEC_DEC_TREE=0",
    "applies the window per tile of keys, so that rows see keys behind theirs",
)
XQA_WIDE = Floor(
    "XQA decodes head_dim up to 512, for groups up to 16",
    Version("0.6.18"),
    "flashinfer#4570",
    "jit/xqa.py: head_dim > 512; csrc/xqa/mha.cu: nbHeadSplits",
    "raises for a head_dim above 256",
)
FMHA_SM120 = Floor(
    "FMHA v2 on SM 12.x has a window, and head_dim 512",
    Version("0.6.14"),
    "flashinfer#3518",
    "jit/attention/fmha_v2/fmha_library.py: flash_valid_sm120_hd512; csrc/fmha_v2_run.cu",
    "has neither",
)
FA2_WIDE = Floor(
    "fa2 has head_dim 512 over 16-bit KV, from SM 8.0 on",
    Version("0.6.15"),
    "flashinfer#3739",
    "jit/attention/modules.py: the flags of large heads; attention/prefill.cuh: USE_VO_SPLIT",
    "0.6.14 builds it for SM 10.0 and later alone; older ones build it, and die at the first run",
)

FLOORS = (
    GEN_LSE,
    GEN_DYNAMIC_PAGES,
    FMHA_SM120,
    GEN_WIDE_VERIFY,
    FA2_WIDE,
    GEN_DYNAMIC_PAGES_OF_ONE,
    XQA_WINDOWED_VERIFY,
    XQA_WIDE,
)
"""All of them, the oldest first. fa3 has none: its sources are the same from 0.6.10.post1 to 0.7.4."""

EXECUTED = {"0.7.2.post1": "fa2, fa3, XQA and FMHA v2, on H100 and H200"}
"""The releases of which there are receipts, and what ran there."""
