"""Kernel lists: each is a folder on FlashInfer's artifact server, known by digests that the wheel pins."""

from __future__ import annotations

from dataclasses import dataclass

CUBIN_PACKAGE = "flashinfer-cubin"
LAST_CUBIN = "0.6.13"
"""The newest flashinfer-cubin of the package index; later ones are on FlashInfer's own index alone."""

HEADER = "include/flashInferMetaInfo.h"
CHECKSUMS = "checksums.txt"


@dataclass(frozen=True)
class KernelList:
    """One list: its ``folder`` and the SHA-256 of its checksums.txt, as ``artifacts.py`` of flashinfer-python has them.

    ``header`` is the SHA-256 of the list itself as that checksums.txt has it, ``wheel`` the flashinfer-cubin with which
    the package index has it, and ``derived`` the SHA-256 of the text that attnconf ships of it; they are empty where
    attnconf has never seen the list.
    """

    folder: str
    checksums: str
    header: str = ""
    wheel: str = ""
    derived: str = ""

    @property
    def short(self) -> str:
        """The first eight characters of its folder, as people quote it."""
        return self.folder[:8]

    @property
    def is_shipped(self) -> bool:
        """Whether attnconf ships what it needs of the list."""
        return bool(self.derived)

    @property
    def remedy(self) -> str:
        """The command that brings the list."""
        return f"pip download --no-deps {CUBIN_PACKAGE}=={self.wheel}" if self.wheel else "flashinfer download-kernels"


_PATH = "fmha/trtllm-gen"

OLD = KernelList(
    f"134850621dbbd55ed6b0c3fa7c29b968136c05ef/{_PATH}",
    "2be32ce1949ab0b1e637c27f128b77c41d6753a36cb9c0e1a97acb2d3d44ae5f",
    "54af6fc0285f244df04dd70f461a8d57704e41df88ce5b9c2599047b889f7e97",
    "0.6.10.post1",
    "56b60b1a8fa57c283c3e472cf925b92477f94c6d610ffafddf433e50176bac11",
)
SAGE = KernelList(
    f"1d876ee612888821b168c25ffa75a9dcbb963aaa/{_PATH}",
    "1abeea012a8779c6df5b84332fad43c6cfc3b257fe5ab883c8ea501464010d16",
    "ee3461ab48640d4f6872cf0eea134f6130938e316b5f9099e5fa8575a0b6996d",
    "0.6.11",
    "c864149ddbddfe507ba031226a71420cc887defec298dbd1572441602e6446d8",
)
DYNAMIC = KernelList(
    f"158f6fa11ef139a098cfddcdddce73ca99d164ad/{_PATH}",
    "c2d9399b2537be785882354a4f9902ed6c03136c0ea341e201eac40c3923e1dc",
    "f6781dfd70669167b7356fa77a805e7306443348a4b5d6a93732a27ebbb3b418",
    "0.6.13",
    "4e2b1c8b4c445188adf82fd22c8c62c9c814ee7403157cfe15375701a2dbcdb3",
)
UNSEEN = KernelList(
    f"2d6a5a029eefcc388ec0ceb87efb55d8bcce5c3c/{_PATH}",
    "d79b5c51fc8597fac57dae0da4afa114fb2014575e4ec3df099ad856d97cabc3",
)
NEWEST = KernelList(
    f"f50085594b9adcf9cbde7b8ea108c8587fa99b4c/{_PATH}",
    "f53552f4c10c58b222162cd56f62eda24ae967aed88a955ea6b07be7416cbddc",
)

SHIPPED = (OLD, SAGE, DYNAMIC)
"""The lists of which attnconf ships what it needs, the oldest first."""
