"""Parameters are read out of the text of any signature."""

from __future__ import annotations

import inspect

import pytest

from attnconf.capture.dumps.signature import parameters
from conformance.tests.support import dumped


def test_names_defaults_and_kinds() -> None:
    text = "(self, q: Union[torch.Tensor, Tuple[int, ...]], layout: str = 'a,b', n: int = -1, *rest, **more) -> None"
    assert [(one.name, one.kind, one.default) for one in parameters(text)] == [
        ("self", "", None),
        ("q", "", None),
        ("layout", "", "a,b"),
        ("n", "", -1),
        ("rest", "*", None),
        ("more", "**", None),
    ]
    assert parameters("() -> None") == ()
    assert [one.name for one in parameters("(a, *, b: Callable[[int], str] = <function f at 0x7>)")] == ["a", "b"]


@pytest.mark.parametrize("function", [dumped.decode, dumped.plan_decode, dumped.run_decode])
def test_they_are_those_that_python_knows(function: object) -> None:
    signature = inspect.signature(function)  # type: ignore[arg-type]
    assert [one.name for one in parameters(str(signature))] == list(signature.parameters)


@pytest.mark.parametrize("text", ["", "<unavailable>", "(a, b", "(1, 2)"])
def test_what_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no signature"):
        parameters(text)
