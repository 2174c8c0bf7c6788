"""Sums that no order of adding changes, so that a row comes out the same to the bit whatever stands beside it."""

import math

from torch import Tensor

DIGITS = 53  # bits of a whole number that float64 holds exactly


def folded_sum(x: Tensor) -> Tensor:
    """[..., num] -> [...] sums along the last axis, in an order that `num` alone decides. Overwrites `x`.

    The axis is folded in halves, so that every addition is of one element to another of the same slice.

    Formal guarantee: a slice's sum does not depend on other slices, nor on how many there are. Where no element is
    negative, the relative error is at most ceil(log2(num)) roundings.
    """
    while x.shape[-1] > 1:
        half = (x.shape[-1] + 1) // 2
        x[..., : x.shape[-1] - half] += x[..., half:]
        x = x[..., :half]
    return x.sum(-1)  # of one element, or of none


def exact_products(x: Tensor, y: Tensor, x_bound: float, y_bound: float) -> Tensor:
    """Inner products of vectors that are first rounded so far that every product and every sum is exact.

    Args:
        x: [..., n, dim].
        y: [..., m, dim].
        x_bound, y_bound: public, > 0; what is beyond is brought to the bound, and NaN counts as 0.

    Returns:
        [..., n, m] float64. Elements keep (53 - log2(dim)) / 2 bits: 21 for 28x28 pixels.

    Formal guarantee: each product is a function of its two vectors alone, on every device and in every batch.
    """
    bits = (DIGITS - math.ceil(math.log2(max(1, x.shape[-1])))) // 2
    whole = whole_numbers(x, x_bound, bits) @ whole_numbers(y, y_bound, bits).mT
    return whole * (x_bound * y_bound * 4.0**-bits)


def whole_numbers(x: Tensor, bound: float, bits: int) -> Tensor:
    """`x` in units of bound * 2^-bits, rounded: float64 whole numbers of at most 2^bits. NaN is 0."""
    return (x.double().nan_to_num(0).clamp(-bound, bound) * (2.0**bits / bound)).round_()
