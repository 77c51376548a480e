"""Over a grid of launches, the model and ``supports()`` say what FlashInfer's own compiled selector said."""

from __future__ import annotations

from packaging.version import Version

from attnconf.backends.flashinfer.trtllm_gen.prediction import Listed, predict
from attnconf.backends.flashinfer.trtllm_gen.question import DTYPES
from attnconf.backends.flashinfer.trtllm_mha import capability
from attnconf.platforms import Platform
from conformance.tests.support import selector_grid
from conformance.tests.support.shapes import a_shape

B200 = (10, 0)
PLATFORM = Platform(
    device="B200", sm=B200, cuda="13.0", packages={"flashinfer-python": selector_grid.RELEASE}, simulated=True
)
NAMES = {theirs: ours for ours, theirs in DTYPES.items()}


def test_the_model_and_supports_answer_as_flashinfers_own_code() -> None:
    questions, recorded = list(selector_grid.questions()), selector_grid.read()
    assert len(questions) == len(recorded) == 60_480
    version = Version(selector_grid.RELEASE)
    wrong = []
    for question, names in zip(questions, recorded, strict=True):
        answer = predict(question, version, B200)
        found = answer.names if isinstance(answer, Listed) else ()
        if found != names:
            wrong.append((question, found, names))
    assert wrong == []
    assert sum(map(bool, recorded)) == 25_596

    unlike = []
    every = len(selector_grid.MULTIPROCESSORS)
    for index in range(0, len(questions), every):
        question = questions[index]
        shape = a_shape(
            mode="extend" if question.context else "verify" if question.max_q_len > 1 else "decode",
            q_dtype=NAMES[question.q_dtype],
            kv_dtype=NAMES[question.kv_dtype],
            out_dtype=NAMES[question.o_dtype],
            head_dim=question.head_dim,
            num_qo_heads=question.num_qo_heads,
            num_kv_heads=question.num_kv_heads,
            page_size=question.page_size,
            max_q_len=question.max_q_len,
            windowed=question.window_left >= 0,
            num_requests=question.num_requests,
            max_kv_len=question.max_kv_len,
            window_left=question.window_left,
        )
        if (capability.supports(shape, PLATFORM) is None) != all(recorded[index : index + every]):
            unlike.append(shape)
    assert unlike == []
