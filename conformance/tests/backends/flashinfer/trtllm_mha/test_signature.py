"""Our calls against the parameter lists of three FlashInfer versions, and against stubs that lack or add one."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from attnconf.backends.flashinfer import library
from attnconf.backends.flashinfer.trtllm_mha.calls import build_call, build_metadata
from attnconf.backends.flashinfer.trtllm_mha.dispatch import FUNCTIONS
from attnconf.backends.flashinfer.trtllm_mha.signature import SignatureMismatchError, bind
from attnconf.backends.flashinfer.trtllm_mha.workspace import zero_bytes
from attnconf.cases.case import Layer
from attnconf.cases.inputs.batch import Batch, KVCache, LayerInputs

if TYPE_CHECKING:
    from collections.abc import Callable

    from attnconf.backends.flashinfer.trtllm_mha.dispatch import Family

SIGNATURES: dict[str, dict[str, dict[str, list[str]]]] = json.loads(
    (Path(__file__).parent / "signatures.json").read_text(encoding="utf-8")
)
FAMILIES: tuple[Family, ...] = ("trtllm-gen-decode", "trtllm-gen-context", "xqa", "fmha_v2")


def stub(required: list[str], defaulted: list[str]) -> Callable[..., None]:
    """Return a function with this signature."""

    def function(*_args: object, **_kwargs: object) -> None: ...

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = [inspect.Parameter(name, kind) for name in required]
    parameters += [inspect.Parameter(name, kind, default=None) for name in defaulted]
    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return function


def arguments(kernel: Family, *, lse: bool = False, q_len: int = 2) -> dict[str, Any]:
    """Return the call for two requests of ``q_len`` new tokens over one page each."""
    geometry = Layer(
        kind="sliding", window_left=3, num_qo_heads=4, num_kv_heads=2, head_dim=64, sm_scale=0.1, sinks=True
    )
    data = torch.zeros(3, 2, 2, 16, 64, dtype=torch.bfloat16)
    q = torch.zeros(2 * q_len, 4, 64, dtype=torch.bfloat16)
    batch = Batch(
        mode="verify",
        page_size=16,
        kv_layout="HND",
        storage="interleaved",
        qo_indptr=torch.tensor([0, q_len, 2 * q_len], dtype=torch.int32),
        seq_lens=torch.tensor([9, 16], dtype=torch.int32),
        block_tables=torch.tensor([[1], [2]], dtype=torch.int32),
        full_to_swa=None,
        q_lens=(q_len, q_len),
        kv_lens=(9, 16),
        max_q_len=q_len,
        max_seq_len=16,
        layers=(LayerInputs(geometry, q, torch.zeros(4), 0, q.dtype),),
        caches=(KVCache(data[:, 0], data[:, 1], "full"),),
    )
    workspace = torch.zeros(8, dtype=torch.uint8)
    stats = torch.zeros(2 * q_len, 4) if lse else None
    metadata = build_metadata(batch, kernel)
    return build_call(kernel, batch, 0, metadata, workspace=workspace, out=torch.zeros_like(q), lse=stats).arguments


@pytest.mark.parametrize("version", SIGNATURES)
@pytest.mark.parametrize("kernel", FAMILIES)
def test_what_must_be_zero_at_every_launch(kernel: Family, version: str) -> None:
    function = stub(**SIGNATURES[version][FUNCTIONS[kernel][1]])
    counts = kernel == "xqa" or (kernel == "trtllm-gen-decode" and version.startswith("0.6."))
    assert zero_bytes(kernel, function) == (8 * 2**20 if counts else 0)


@pytest.mark.parametrize("version", SIGNATURES)
@pytest.mark.parametrize("kernel", FAMILIES)
def test_every_call_binds_in_every_version(kernel: Family, version: str) -> None:
    name = FUNCTIONS[kernel][1]
    function = stub(**SIGNATURES[version][name])
    given = arguments(kernel)
    bound = bind(function, name, given, version)
    assert list(bound) == SIGNATURES[version][name]["required"] + SIGNATURES[version][name]["defaulted"]
    assert all(bound[key] is value for key, value in given.items())


@pytest.mark.parametrize("kernel", FAMILIES)
@pytest.mark.parametrize("version", SIGNATURES)
def test_every_required_parameter_is_given(kernel: Family, version: str) -> None:
    assert set(SIGNATURES[version][FUNCTIONS[kernel][1]]["required"]) <= set(arguments(kernel))


@pytest.mark.parametrize("kernel", ["trtllm-gen-decode", "trtllm-gen-context"])
def test_an_lse_binds_where_the_version_has_one(kernel: Family) -> None:
    name = FUNCTIONS[kernel][1]
    given = arguments(kernel, lse=True)
    with pytest.raises(
        SignatureMismatchError, match=r"of flashinfer 0\.6\.10\.post1 does not know the parameter 'lse'"
    ):
        bind(stub(**SIGNATURES["0.6.10.post1"][name]), name, given, "0.6.10.post1")
    for version in ("0.6.13", "0.7.2.post1"):
        assert bind(stub(**SIGNATURES[version][name]), name, given, version)["lse"] is given["lse"]


@pytest.mark.parametrize("kernel", FAMILIES)
def test_a_new_required_parameter_is_named(kernel: Family) -> None:
    name = FUNCTIONS[kernel][1]
    known = SIGNATURES["0.6.13"][name]
    function = stub(["plan", *known["required"]], known["defaulted"])
    with pytest.raises(SignatureMismatchError, match=f"{name} of flashinfer 9.9 needs the parameter 'plan'"):
        bind(function, name, arguments(kernel), "9.9")


@pytest.mark.parametrize("kernel", FAMILIES)
def test_every_parameter_that_disappears_is_named(kernel: Family) -> None:
    name = FUNCTIONS[kernel][1]
    known = SIGNATURES["0.6.13"][name]
    given = arguments(kernel)
    for gone in given:
        function = stub(
            [parameter for parameter in known["required"] if parameter != gone],
            [parameter for parameter in known["defaulted"] if parameter != gone],
        )
        with pytest.raises(SignatureMismatchError) as caught:
            bind(function, name, given, "9.9")
        assert (caught.value.function, caught.value.parameter) == (name, gone)


@pytest.mark.parametrize("kernel", FAMILIES)
def test_the_installed_functions_are_as_recorded(kernel: Family) -> None:
    module, name = FUNCTIONS[kernel]
    declared = inspect.signature(library.load(module, name)).parameters
    recorded = SIGNATURES.get(library.version())
    given = arguments(kernel)
    bind(library.load(module, name), name, given, library.version())
    if recorded is not None:
        assert list(declared) == recorded[name]["required"] + recorded[name]["defaulted"]


def test_a_mask_is_passed_for_several_query_tokens_only() -> None:
    assert arguments("xqa")["mask"].shape == (2, 2, 2)
    assert "mask" not in arguments("xqa", q_len=1)
    assert "mask" not in arguments("trtllm-gen-decode")
