"""Releases: which kernel list each flashinfer-python names, and which generation of the selector it has.

Read from ``flashinfer/artifacts.py`` and ``data/include/flashinfer/trtllm/fmha/fmhaKernels.cuh`` of every wheel of the
package index from 0.6.10.post1 to 0.7.4. From 0.6.18 on a release names a list that the index does not have, and its
selector asks by traits that older lists lack, so attnconf has no model of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.version import Version

from attnconf.backends.flashinfer.trtllm_gen import lists, rules

if TYPE_CHECKING:
    from attnconf.backends.flashinfer.trtllm_gen.lists import KernelList
    from attnconf.backends.flashinfer.trtllm_gen.rules import Rules


@dataclass(frozen=True)
class Release:
    """One release: its list, its selector's rules (None: no model), and the SHA-256 of its ``fmhaKernels.cuh``."""

    version: Version
    kernels: KernelList
    rules: Rules | None
    selector: str


def _modelled(version: str, kernels: KernelList, found: Rules) -> Release:
    return Release(Version(version), kernels, found, found.digest)


def _unknown(version: str, kernels: KernelList, selector: str) -> Release:
    return Release(Version(version), kernels, None, selector)


_0_6_18 = "95e3abffdd6355fca030a7280966c55fd1aea3484e5443305430e114dae2662e"
_0_7_0 = "569ef1734e1db60050f5d4a9f029cd1f5a40cdd71677135bd408b52fdf30c3c7"
_0_7_1 = "7f2ea5116d4929cfb5350614671c7524da29df49db969f668d2e672bc5c0369c"
_0_7_2_POST1 = "00a4bddbd6591620a0c1f89fd2bfe9e2e8e4d59f2d1554785cc092fdb29ef48a"
_0_7_4 = "5bd164bcadbb1c9ff9e187113ad76796fdc0b25e40f4c6a26053a7fb14b2ffc9"

RELEASES = (
    _modelled("0.6.10.post1", lists.OLD, rules.V0_6_10),
    _modelled("0.6.11", lists.SAGE, rules.V0_6_11),
    _modelled("0.6.11.post1", lists.SAGE, rules.V0_6_11),
    _modelled("0.6.11.post2", lists.SAGE, rules.V0_6_11),
    _modelled("0.6.11.post3", lists.SAGE, rules.V0_6_11),
    _modelled("0.6.12", lists.DYNAMIC, rules.V0_6_12),
    _modelled("0.6.13", lists.DYNAMIC, rules.V0_6_12),
    _modelled("0.6.14", lists.DYNAMIC, rules.V0_6_14),
    _modelled("0.6.15", lists.DYNAMIC, rules.V0_6_14),
    _modelled("0.6.15.post1", lists.DYNAMIC, rules.V0_6_14),
    _modelled("0.6.16", lists.DYNAMIC, rules.V0_6_16),
    _modelled("0.6.16.post1", lists.DYNAMIC, rules.V0_6_16),
    _modelled("0.6.16.post2", lists.DYNAMIC, rules.V0_6_16),
    _modelled("0.6.16.post3", lists.DYNAMIC, rules.V0_6_16),
    _modelled("0.6.16.post4", lists.DYNAMIC, rules.V0_6_16),
    _modelled("0.6.17", lists.DYNAMIC, rules.V0_6_16),
    _unknown("0.6.18", lists.UNSEEN, _0_6_18),
    _unknown("0.6.18.post1", lists.UNSEEN, _0_6_18),
    _unknown("0.7.0", lists.UNSEEN, _0_7_0),
    _unknown("0.7.0.post1", lists.UNSEEN, _0_7_0),
    _unknown("0.7.1", lists.UNSEEN, _0_7_1),
    _unknown("0.7.2", lists.UNSEEN, _0_7_1),
    _unknown("0.7.2.post1", lists.UNSEEN, _0_7_2_POST1),
    _unknown("0.7.4", lists.NEWEST, _0_7_4),
)
"""Every release of the package index from 0.6.10.post1 on, the oldest first."""

_BY_VERSION = {release.version: release for release in RELEASES}


def release_of(version: Version) -> Release | None:
    """Return what is known of one release, None of one that attnconf has not read."""
    return _BY_VERSION.get(version)
