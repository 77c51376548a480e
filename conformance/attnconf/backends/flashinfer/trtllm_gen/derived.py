"""Derived lists: what the selection reads of a kernel list, as the small file that attnconf ships.

Each is JSON under xz: its source's digests and notice, and the kernels column by column.
``python -m attnconf.backends.flashinfer.trtllm_gen.derived`` writes them from FlashInfer's own lists.
"""

from __future__ import annotations

import hashlib
import lzma
from functools import cache
from typing import TYPE_CHECKING, Any

from attnconf.backends.flashinfer.trtllm_gen.lists import HEADER
from attnconf.backends.flashinfer.trtllm_gen.row import Row
from attnconf.errors import InvalidInputError
from attnconf.files import read_bytes
from attnconf.values import canonical_json, parse_json
from attnconf_fixtures import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from attnconf.backends.flashinfer.trtllm_gen.lists import KernelList

FOLDER = ROOT / "trtllm_gen"
SCHEMA = "attnconf.trtllm_gen/1"
NOTICE = (
    "Derived from flashInferMetaInfo.h, SPDX-FileCopyrightText: Copyright (c) 1993-2024 NVIDIA CORPORATION &"
    " AFFILIATES, SPDX-License-Identifier: Apache-2.0. Changed: only the kernels of paged"
    " grouped-query attention, and of their fields those by which one is selected."
)
_MOST_TEXT = 8 * 10**6


def path_of(kernels: KernelList) -> Path:
    """Return the file of the derived list."""
    return FOLDER / f"{kernels.short}.json.xz"


def derive(rows: Iterable[Row], kernels: KernelList) -> bytes:
    """Return the content of the derived list of ``rows``."""
    ordered = sorted(rows)
    columns = {name: [row[index] for row in ordered] for index, name in enumerate(Row._fields)}
    data = {
        "schema": SCHEMA,
        "notice": NOTICE,
        "source": {
            "package": f"flashinfer-cubin {kernels.wheel}",
            "path": f"{kernels.folder}/{HEADER}",
            "sha256": kernels.header,
            "checksums_sha256": kernels.checksums,
        },
        "columns": columns,
    }
    return lzma.compress(canonical_json(data).encode(), preset=9 | lzma.PRESET_EXTREME)


def read_derived(path: Path, kernels: KernelList) -> tuple[Row, ...]:
    """Return the kernels of a derived list. Raises ``InvalidInputError`` for any file but that of ``kernels``."""
    text = _text(path)
    found = hashlib.sha256(text).hexdigest()
    if found != kernels.derived:
        allowed = f"{kernels.derived}, which attnconf ships for list {kernels.short}"
        raise InvalidInputError(str(path), field="SHA-256 of its text", given=found, allowed=allowed)
    data: Any = parse_json(text.decode(), str(path))
    return tuple(Row(*cells) for cells in zip(*(data["columns"][name] for name in Row._fields), strict=True))


@cache
def shipped_rows(kernels: KernelList) -> tuple[Row, ...]:
    """Return the kernels of a list that attnconf ships. Raises ``InvalidInputError`` when the file was changed."""
    return read_derived(path_of(kernels), kernels)


def _text(path: Path) -> bytes:
    reader = lzma.LZMADecompressor()
    try:
        text = reader.decompress(read_bytes(path), max_length=_MOST_TEXT)
    except lzma.LZMAError as error:
        raise InvalidInputError(str(path), given=f"cannot be read ({error})") from None
    if not reader.eof:
        raise InvalidInputError(str(path), given="cut off, or too large", allowed=f"a whole file of {SCHEMA}")
    return text
