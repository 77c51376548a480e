"""What a launch on the SM100 family is called, and what FlashInfer's word for a missing kernel becomes."""

from __future__ import annotations

from typing import Any, NoReturn

import pytest
import torch

from attnconf.backends.flashinfer.trtllm_mha import backend
from attnconf.backends.flashinfer.trtllm_mha.backend import PreparedCalls, TrtllmMha
from attnconf.backends.flashinfer.trtllm_mha.calls import Call
from attnconf.backends.protocol import Promises
from attnconf.errors import UnsupportedError
from attnconf.platforms import Platform
from conformance.tests.support.shapes import a_shape

B200 = Platform(device="B200", sm=(10, 0), cuda="13.0", packages={"flashinfer-python": "0.6.13"})
RUNS = {"num_requests": 3, "max_kv_len": 900, "window_left": -1}


def launch(function: Any, *, predicted: bool) -> str:  # noqa: ANN401 - FlashInfer's function
    prepared = PreparedCalls(
        batch=None,  # type: ignore[arg-type] - not read by a launch
        kernel="trtllm-gen-decode",
        machine="sm100",
        metadata=None,  # type: ignore[arg-type]
        workspace=torch.empty(0),
        function=function,
        promises=Promises(),
        reads_contract=False,
        predicted=predicted,
    )
    return prepared._launch(Call("module", "function", {}))


@pytest.mark.parametrize(
    "words",
    [
        "Missing TRTLLM-GEN kernel (decode): qkvLayout=2, maskType=1",
        "Error in function 'loadKernel' at fmhaKernels.cuh:961: Trtllm-gen kernels not found: qkvLayout=2",
    ],
)
def test_a_missing_kernel_is_a_refusal_and_no_crash(words: str) -> None:
    def missing(**_arguments: object) -> NoReturn:
        raise RuntimeError(words)

    with pytest.raises(UnsupportedError, match=r"trtllm-gen-decode of flashinfer .* has no such kernel: .*qkvLayout=2"):
        launch(missing, predicted=False)


def test_any_other_error_stays_what_it_is() -> None:
    def fails(**_arguments: object) -> NoReturn:
        raise RuntimeError("an illegal memory access")

    with pytest.raises(RuntimeError, match="illegal"):
        launch(fails, predicted=False)


def test_a_kernel_that_is_not_the_predicted_one_is_a_silent_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clause 20 compares what ``run`` returns with what ``kernels`` names."""
    named = TrtllmMha(B200).kernels(a_shape(**RUNS))
    right = next(name for name in named if "/" in name).partition("/")[2]
    for ran, is_right in ((right, True), (right.replace("H256", "H128"), False)):
        monkeypatch.setattr(backend, "launched", lambda call, ran=ran: (ran,) if call() is None else ())
        assert (launch(lambda **_: None, predicted=True) in named) is is_right


def test_a_launch_that_nobody_can_see_is_called_by_its_family() -> None:
    assert launch(lambda **_: None, predicted=True) == "trtllm-gen-decode"
    assert "trtllm-gen-decode" in TrtllmMha(B200).kernels(a_shape(**RUNS))


def test_the_names_of_the_list_are_those_of_the_shape() -> None:
    decode = TrtllmMha(B200).kernels(a_shape(**RUNS))
    assert min(decode) == "trtllm-gen-decode"
    assert decode != TrtllmMha(B200).kernels(a_shape(mode="verify", max_q_len=8, **RUNS))
    unknown = TrtllmMha(B200.model_copy(update={"packages": {"flashinfer-python": "0.7.4"}}))
    assert unknown.kernels(a_shape(**RUNS)) == {"trtllm-gen-decode"}
