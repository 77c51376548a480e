"""Noise: normal numbers, the same for the same generator, and no two rows alike."""

from __future__ import annotations

import hashlib

import pytest
import torch

from attnconf.cases.inputs.noise import Stream, normal


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return normal(shape, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("stream", ["keys", "queries"])
def test_it_is_normal(stream: Stream) -> None:
    found = normal((300, 1000), torch.Generator().manual_seed(0), stream=stream).double()
    assert abs(float(found.mean())) < 0.01
    assert abs(float(found.std()) - 1.0) < 0.01
    for deviations, share in ((0.5, 0.3829), (1.0, 0.6827), (2.0, 0.9545), (3.0, 0.9973)):
        assert abs(float((found.abs() < deviations).double().mean()) - share) < 0.01
    following = (found[:, 1:] * found[:, :-1]).mean()
    assert abs(float(following)) < 0.01


def test_queries_and_keys_have_nothing_in_common() -> None:
    q, k = (normal((2000, 500), torch.Generator().manual_seed(0), stream=one) for one in ("queries", "keys"))
    assert abs(float((q * k).mean())) < 0.005


def test_its_numbers_are_those_of_every_machine() -> None:
    """The digest is of integers that a counter gives; a machine on which it differs draws other inputs."""
    found = normal((4, 1000), torch.Generator().manual_seed(0))
    assert torch.equal(found * 1024, (found * 1024).round())
    assert hashlib.sha256(str((found * 1024).int().tolist()).encode()).hexdigest()[:16] == "c86f88efd3a827d5"


def test_sums_are_exact_in_any_order() -> None:
    found = draw(50, 512)
    assert torch.equal(found.sum(dim=1), found.flip(1).cumsum(1)[:, -1])


def test_the_same_generator_gives_the_same_numbers_and_goes_on_to_others() -> None:
    rng = torch.Generator().manual_seed(3)
    first, second = normal((40, 8), rng), normal((40, 8), rng)
    assert torch.equal(first, draw(40, 8, seed=3))
    assert not torch.equal(first, second)
    assert not torch.equal(first, draw(40, 8, seed=4))


@pytest.mark.parametrize("row", [256, 4096, 3 * 512])
def test_a_tensor_longer_than_what_is_drawn_has_no_two_equal_rows(row: int) -> None:
    found = draw(10_000_000 // row, row)
    heads = {tuple(start) for start in found[:, :8].tolist()}
    assert len(heads) == found.shape[0]
    assert torch.isfinite(found).all()


def test_what_is_returned_is_the_caller_s_own() -> None:
    mine = draw(5, 5)
    mine.zero_()
    assert not torch.equal(mine, draw(5, 5))


def test_an_empty_shape_has_no_numbers() -> None:
    assert draw(0, 4, 8).shape == (0, 4, 8)
