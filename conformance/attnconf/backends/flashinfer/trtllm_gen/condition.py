"""Condition: whether this machine's list and selector are those that attnconf's answers are about."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from packaging.version import Version

from attnconf.backends.flashinfer.package import PACKAGE
from attnconf.backends.flashinfer.trtllm_gen.installed import (
    find_list,
    refuse_other_selector,
    selector_path,
    verified,
)
from attnconf.backends.flashinfer.trtllm_gen.lists import CUBIN_PACKAGE, LAST_CUBIN
from attnconf.backends.flashinfer.trtllm_gen.releases import RELEASES, release_of
from attnconf.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Fault = tuple[str, str]
"""What is wrong, as a clause, and the command that mends it."""


def faults(version: Version, environment: Mapping[str, str] = os.environ) -> Iterator[Fault]:
    """Yield what this machine's list and selector are not, for the installed flashinfer-python ``version``."""
    release = release_of(version)
    if release is None or release.rules is None:
        last = max(one.version for one in RELEASES if one.rules is not None)
        yield f"which SM100 kernels {PACKAGE} {version} has is unknown to attnconf", _asked_of(last)
    if release is None:
        return
    path = selector_path()
    if path is not None:
        try:
            refuse_other_selector(release, path)
        except InvalidInputError as error:
            yield str(error), f"pip install --force-reinstall --no-deps {PACKAGE}=={version}"
    folder = find_list(release.kernels, environment)
    if folder is not None:
        try:
            verified(folder, release.kernels)
        except InvalidInputError as error:
            yield str(error), f"rm -r {folder} && {release.kernels.remedy}"


def cubin_remedy(version: Version) -> str:
    """Return the command after which flashinfer-cubin fits ``version``; the package index has no later ones."""
    known = version <= Version(LAST_CUBIN)
    return f"pip install {CUBIN_PACKAGE}=={version}" if known else f"pip uninstall -y {CUBIN_PACKAGE}"


def _asked_of(release: Version) -> str:
    return f"attnconf kernels --model gemma4-12b --flashinfer {release}"
