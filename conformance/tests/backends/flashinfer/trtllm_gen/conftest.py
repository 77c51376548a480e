"""A small kernel list in FlashInfer's own form, beside its checksums, as flashinfer-cubin has it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest

from attnconf.backends.flashinfer.trtllm_gen import lists

if TYPE_CHECKING:
    from pathlib import Path

    from attnconf.backends.flashinfer.trtllm_gen.lists import KernelList

FIELDS = (
    "Data_type mDataTypeQ", "Data_type mDataTypeKv", "Data_type mDataTypeK", "Data_type mDataTypeV",
    "Data_type mDataTypeO", "int mTileSizeQ", "int mTileSizeKv", "int mStepQ", "int mStepKv", "int mHeadDimPerCtaV",
    "int mHeadDimQk", "int mHeadDimV", "int mSM", "const unsigned char* mCubin", "unsigned int mCubinSize",
    "const char* mFuncName", "int mSharedMemBytes", "int mThreadsPerCTA", "int mQkvLayout", "int mNumTokensPerPage",
    "int mMaskType", "int mKernelType", "int mTileScheduler", "int mMultiCtasKvMode", "int mNumEltsPerSageAttnBlkQ",
    "int mNumEltsPerSageAttnBlkK", "int mNumEltsPerSageAttnBlkP", "int mNumEltsPerSageAttnBlkV", "bool mGroupsHeadsQ",
    "bool mGroupsTokensHeadsQ", "bool mReuseSmemKForV", "bool m2CtaMma", "int mSparseAttn",
    "bool mSkipsSoftmaxWhenPossible", "bool mReserved1", "bool mReserved2", "const char* sha256",
)  # fmt: skip
PAGED = (
    "DATA_TYPE_BF16, DATA_TYPE_BF16, DATA_TYPE_BF16, DATA_TYPE_BF16, DATA_TYPE_BF16, 8, 128, 8, 256, 256, 256, 256, "
    'kSM_100f, nullptr, 0, "fmhaPagedP16", 178280, 512, 2, 16, 1, 2, 0, 3, 0, 0, 0, 0, true, true, false, false, 0, '
    'false, false, false, "10ecaca7"'
)
SEPARATE = PAGED.replace("fmhaPagedP16", "fmhaSeparate").replace("512, 2, 16,", "512, 0, 0,")


def header(rows: tuple[str, ...] = (PAGED, SEPARATE), fields: tuple[str, ...] = FIELDS) -> str:
    """Return the text of a list."""
    declared = "".join(f"    {field};\n" for field in fields)
    listed = "\n".join(f"{{ {row}}}," for row in rows)
    return (
        f"struct TllmGenFmhaKernelMetaInfo\n{{\n{declared}}};\n\n"
        f"static const TllmGenFmhaKernelMetaInfo sTllmGenFmhaKernelMetaInfos[] = {{\n{listed}\n}};\n"
    )


@dataclass(frozen=True)
class OnDisk:
    """A list on disk: the root of its cubins, and what is known of it."""

    root: Path
    kernels: KernelList

    @property
    def folder(self) -> Path:
        """The list's own folder."""
        return self.root / self.kernels.folder


@pytest.fixture
def on_disk(tmp_path: Path) -> OnDisk:
    """A whole list on disk, whose digests are known."""
    content = header().encode()
    checksums = f"{'0' * 64}  fmhaPagedP16.cubin\n{hashlib.sha256(content).hexdigest()}  {lists.HEADER}\n".encode()
    kernels = replace(lists.DYNAMIC, checksums=hashlib.sha256(checksums).hexdigest())
    folder = tmp_path / kernels.folder
    (folder / lists.HEADER).parent.mkdir(parents=True)
    (folder / lists.HEADER).write_bytes(content)
    (folder / lists.CHECKSUMS).write_bytes(checksums)
    return OnDisk(tmp_path, kernels)
