"""Gaussian mechanisms on all records, accounted exactly, in closed form."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, ndtr

from dpsad.privacy.budget import MAX_EPSILON

# of `gaussian_delta`, which is rounded up by it: 3e-13 was the largest error seen against 400 digits
RELATIVE_ERROR = 1e-12
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(16)


def gaussian_delta(mu: float, epsilon: float) -> float:
    """The exact delta of Gaussian mechanisms whose total signal-to-noise ratio is `mu`, at `epsilon`.

    T releases of noise multiplier s on all records have mu = sqrt(T) / s.

    Args:
        mu: > 0.
        epsilon: >= 0.

    Formal guarantee: at least the exact delta, and at most 2e-12 of it more.
    Edge cases: 0 below the smallest positive number.

    Source: Balle and Wang 2018, Theorem 8; Dong et al. 2022, Corollary 2.13. Both have a difference of two terms that
    may be equal to all digits; with Mills' ratio M = (1 - Phi) / phi it is phi(near) (M(near) - M(far)).
    """
    near, far = epsilon / mu - mu / 2, epsilon / mu + mu / 2
    if near > 39:  # phi is no number any more
        return 0.0
    density = math.exp(-near * near / 2) / math.sqrt(2 * math.pi)
    if mu < 1:  # two ratios that are nearly equal: the integral of the slope between them, by Gauss and Legendre
        points = epsilon / mu + mu / 2 * _NODES
        exact = density * mu / 2 * float(_WEIGHTS @ (1 - points * _mills_ratio(points)))
    elif near < 0:
        exact = float(ndtr(-near)) - density * float(_mills_ratio(far))
    else:
        exact = density * float(_mills_ratio(near) - _mills_ratio(far))
    return min(1.0, exact * (1 + RELATIVE_ERROR))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Smallest epsilon of Gaussian mechanisms whose total signal-to-noise ratio is `mu`, at `delta`.

    Formal guarantee: rounded up, by at most 1e-9 of it; `gaussian_delta(mu, result) <= delta`.
    Edge cases: infinity above 500, where no bound means anything.
    """
    if gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    low, high = 0.0, MAX_EPSILON
    if gaussian_delta(mu, high) > delta:
        return math.inf
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if gaussian_delta(mu, middle) <= delta else (middle, high)
    return high


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Largest `mu` such that Gaussian mechanisms of that total signal-to-noise ratio are (epsilon, delta)-private.

    Formal guarantee: the returned value satisfies `gaussian_delta(mu, epsilon) <= delta`.
    Edge cases: an infinite epsilon allows an infinite `mu`: no noise, and no bound.
    """
    if epsilon == math.inf:
        return math.inf
    low, high = 0.0, 1.0
    while gaussian_delta(high, epsilon) <= delta:
        low, high = high, 2 * high
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if gaussian_delta(middle, epsilon) <= delta else (low, middle)
    return low


def _mills_ratio(x: float | NDArray) -> NDArray:
    """(1 - Phi(x)) / phi(x) of a standard normal, for x of -30 or more."""
    return math.sqrt(math.pi / 2) * erfcx(x / math.sqrt(2))
