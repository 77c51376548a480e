"""Request: one request of a case, by its lengths, its prefix, its images and its drafts."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from attnconf.cases import trees
from attnconf.values import Value

Count = Annotated[int, Field(ge=0)]
Span = tuple[Count, Annotated[int, Field(gt=0, lt=2**31)]]
"""Tokens of a request from the first number to the second, which is not among them."""

MAX_VERIFY_TOKENS = 64
"""Query tokens that one request may bring to a verify step: the last one that was accepted, and its drafts."""

Parent = Annotated[int, Field(ge=-1, lt=MAX_VERIFY_TOKENS, strict=True)]


class Request(Value):
    """One request: ``prefix_len`` cached tokens, then ``new_tokens`` query tokens.

    Its prefix shares its first ``shared_pages`` pages with the earlier request ``shares_with``. ``spans`` are the
    tokens of its images, in order and apart, counted from the request's first token. The last one may end behind the
    last token, where the rest of an image comes with a later chunk: a layer of ``spans`` sees what is there. ``tree``
    are the parents of the new tokens of a verify step (``cases/trees.py``), -1 for the last token of the prefix; where
    it is empty, they are a chain.
    """

    prefix_len: Count = 0
    new_tokens: Count = 1
    shares_with: Count | None = None
    shared_pages: Count = 0
    spans: tuple[Span, ...] = ()
    tree: Annotated[tuple[Parent, ...], Field(max_length=MAX_VERIFY_TOKENS)] = ()

    @property
    def kv_len(self) -> int:
        """Cached plus new tokens."""
        return self.prefix_len + self.new_tokens

    @property
    def queried_spans(self) -> tuple[Span, ...]:
        """The spans with a query token among theirs; no row sees anything of the others' masks."""
        return tuple(span for span in self.spans if max(span[0], self.prefix_len) < min(span[1], self.kv_len))

    def span_of(self, position: int) -> Span | None:
        """Return the span that ``position`` lies in, or None."""
        return next((span for span in self.spans if span[0] <= position < span[1]), None)

    def resized(self, prefix_len: int, new_tokens: int) -> Request:
        """Return the request with other lengths; spans behind its last token go, and a tree grows or is cut."""
        kept = tuple(span for span in self.spans if span[0] < prefix_len + new_tokens)
        tree = trees.resized(self.tree, new_tokens)
        changes = {"prefix_len": prefix_len, "new_tokens": new_tokens, "spans": kept, "tree": tree}
        return self.model_copy(update=changes)

    @model_validator(mode="before")
    @classmethod
    def _leave_out(cls, data: Any) -> Any:  # noqa: ANN401 - what is validated may be anything
        """Leave out a ``tree`` that is a chain: one request has one form."""
        tree = data.get("tree") if isinstance(data, dict) else None
        if isinstance(tree, list | tuple) and len(tree) == data.get("new_tokens", 1) and list(tree) == _chain(tree):
            return {name: value for name, value in data.items() if name != "tree"}
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.tree:
            trees.check(self.tree, self.new_tokens)
            if self.spans:
                raise ValueError("a request with a tree has no spans: nothing serves both")
        end = 0
        for begin, stop in self.spans:
            if not end <= begin < stop:
                allowed = "pairs [begin, end) in order, with begin below end, and none in another"
                raise ValueError(f"spans are {allowed}, not [{begin}, {stop}) behind token {end}")
            end = stop
        if self.spans and self.spans[-1][0] >= self.kv_len:
            raise ValueError(f"spans begin among the request's {self.kv_len} tokens, not at {self.spans[-1][0]}")
        return self


def _chain(tree: list[Any] | tuple[Any, ...]) -> list[int]:
    return list(range(-1, len(tree) - 1))
