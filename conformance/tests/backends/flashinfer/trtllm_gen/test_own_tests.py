"""The launches of FlashInfer 0.6.13's own tests: list, selector and ``supports()`` say yes to each."""

from __future__ import annotations

from collections import Counter

from packaging.version import Version

from attnconf.backends.flashinfer.trtllm_gen.prediction import Listed, predict
from attnconf.backends.flashinfer.trtllm_gen.question import DTYPES, Question
from attnconf.backends.flashinfer.trtllm_mha import capability
from attnconf.platforms import Platform
from conformance.tests.support.own_shapes import RELEASE, SKIPPED_DTYPES, OwnShape, own_shapes
from conformance.tests.support.selector_grid import MULTIPROCESSORS
from conformance.tests.support.shapes import a_shape

B200 = (10, 0)
VERSION = Version(RELEASE)
PLATFORM = Platform(device="B200", sm=B200, cuda="13.0", packages={"flashinfer-python": RELEASE}, simulated=True)
NAMES = {theirs: ours for ours, theirs in DTYPES.items()}


def asked(own: OwnShape, multiprocessors: int) -> Question:
    q_dtype, kv_dtype, o_dtype = own.dtypes
    return Question(
        context=own.kind == "prefill",
        q_dtype=q_dtype,
        kv_dtype=kv_dtype,
        o_dtype=o_dtype,
        num_qo_heads=own.kv_heads * own.group,
        num_kv_heads=own.kv_heads,
        head_dim=own.head_dim,
        page_size=own.page_size,
        num_requests=own.requests,
        max_q_len=own.q_len,
        max_kv_len=own.max_kv_len,
        window_left=own.window_left,
        multiprocessors=multiprocessors,
    )


def supported(own: OwnShape) -> str | None:
    """Return why ``trtllm_mha`` declines the launch, or None."""
    q_dtype, kv_dtype, out_dtype = (NAMES[one] for one in own.dtypes)
    refusal = capability.supports(
        a_shape(
            mode="extend" if own.kind == "prefill" else "verify" if own.q_len > 1 else "decode",
            q_dtype=q_dtype,
            kv_dtype=kv_dtype,
            out_dtype=out_dtype,
            head_dim=own.head_dim,
            num_qo_heads=own.kv_heads * own.group,
            num_kv_heads=own.kv_heads,
            page_size=own.page_size,
            max_q_len=own.q_len,
            windowed=own.window_left >= 0,
            sinks=own.sinks,
            num_requests=own.requests,
            max_kv_len=own.max_kv_len,
            window_left=own.window_left,
        ),
        PLATFORM,
    )
    return None if refusal is None else refusal.reason


def test_list_and_selector_have_a_kernel_for_each_launch_of_flashinfers_own_tests() -> None:
    shapes = list(own_shapes())
    absent = [
        (own, answer)
        for own in shapes
        for multiprocessors in MULTIPROCESSORS
        if not isinstance(answer := predict(asked(own, multiprocessors), VERSION, B200), Listed)
    ]
    assert absent == []
    assert len(shapes) == len(set(shapes))


def test_what_these_tests_skip_has_no_kernel() -> None:
    decodes = [own for own in own_shapes() if own.test == "batch_decode"]
    for dtypes in SKIPPED_DTYPES:
        assert not any(
            isinstance(predict(asked(own._replace(dtypes=dtypes), 148), VERSION, B200), Listed) for own in decodes
        )


def test_supports_says_yes_to_each_too() -> None:
    declined = Counter(reason for own in own_shapes() if (reason := supported(own)) is not None)
    assert declined == {}
