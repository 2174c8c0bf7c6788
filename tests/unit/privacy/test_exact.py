"""Sums and products that are the same to the bit whatever stands beside them."""

import math

import pytest
import torch

from dpsad.privacy.exact import exact_products, folded_sum, whole_numbers


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 64, 785, 10_000])
def test_a_folded_sum_is_the_sum(rng, size):
    numbers = torch.rand(4, 3, size, generator=rng)
    expected = torch.tensor([[math.fsum(slice.tolist()) for slice in part] for part in numbers])
    torch.testing.assert_close(folded_sum(numbers.clone()), expected, rtol=15 * 2**-24, atol=0)


def test_a_folded_sum_does_not_depend_on_other_slices(rng):
    numbers = torch.randn(100, 785, generator=rng)
    together = folded_sum(numbers.clone())
    for index in range(100):
        assert folded_sum(numbers[index].clone()) == together[index]


@pytest.mark.parametrize("dim", [1, 5, 784, 3072])
def test_products_are_those_of_rounded_numbers_without_any_error(rng, dim):
    """Against Python's whole numbers, which are exact."""
    x, y = torch.randn(6, dim, generator=rng), torch.rand(4, dim, generator=rng) - 0.5
    bits = (53 - math.ceil(math.log2(dim))) // 2
    products = exact_products(x, y, 2.0, 0.5) / 4.0**-bits
    xs, ys = ([list(map(int, row)) for row in whole_numbers(*pair, bits).tolist()] for pair in ((x, 2.0), (y, 0.5)))
    expected = [[sum(a * b for a, b in zip(row, other, strict=True)) for other in ys] for row in xs]
    assert products.tolist() == expected
    torch.testing.assert_close(exact_products(x, y, 6.0, 0.5), x.double() @ y.double().T, rtol=0, atol=0.01)


def test_products_do_not_depend_on_other_rows_nor_on_their_number(rng):
    x, y = torch.randn(150, 784, generator=rng), torch.randn(64, 784, generator=rng)
    together = exact_products(x, y, 4.0, 4.0)
    for num in (1, 2, 31, 149):
        assert torch.equal(exact_products(x[-num:], y, 4.0, 4.0), together[-num:])
        assert torch.equal(exact_products(x, y[-num:], 4.0, 4.0), together[:, -num:])


def test_what_is_out_of_range_is_brought_into_it():
    x = torch.tensor([math.nan, math.inf, -math.inf, 1e30, 0.5, -0.25])
    assert whole_numbers(x, 1.0, 4).tolist() == [0, 16, -16, 16, 8, -4]
