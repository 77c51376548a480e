"""Noise: normal numbers, the same for the same generator, and no two rows alike."""

from __future__ import annotations

import pytest
import torch

from attnconf.cases.inputs.noise import normal


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return normal(shape, torch.Generator().manual_seed(seed))


def test_it_is_normal() -> None:
    found = draw(300, 1000).double()
    assert abs(float(found.mean())) < 0.01
    assert abs(float(found.std()) - 1.0) < 0.01
    assert 0.68 < float((found.abs() < 1).double().mean()) < 0.69


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
