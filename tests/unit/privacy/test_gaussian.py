"""The closed form of Gaussian mechanisms, against four hundred digits."""

import math

import mpmath
import pytest

from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.gaussian import RELATIVE_ERROR, gaussian_delta, gaussian_epsilon, gaussian_mu
from dpsad.privacy.plan import ReleasePlan, Unit

MUS = (1e-3, 0.03, 0.5, 0.999, 1.0, 1.001, 3.0, 10.0, 50.0)
DELTAS = (0.1, 1e-5, 1e-8, 1e-12, 1e-15, 1e-20, 1e-30)


def exact_delta(mu, epsilon):
    """Golden: Balle and Wang 2018, Theorem 8, by mpmath with so many digits that nothing cancels."""
    with mpmath.workdps(400):
        mu, epsilon = mpmath.mpf(mu), mpmath.mpf(epsilon)
        below = [mpmath.erfc((epsilon / mu + sign * mu / 2) / mpmath.sqrt(2)) / 2 for sign in (-1, 1)]
        return below[0] - mpmath.exp(epsilon) * below[1]


def relative_error(mu, epsilon):
    exact = exact_delta(mu, epsilon)
    return float((mpmath.mpf(gaussian_delta(mu, epsilon)) - exact) / exact)


@pytest.mark.parametrize("mu", MUS)
@pytest.mark.parametrize("near", [-25.0, -3.0, -0.4, 0.0, 1e-3, 2.0, 6.0, 11.0, 30.0])
def test_delta_is_exact_to_rounding_and_never_below(mu, near):
    """`near` standard deviations lie between the mean privacy loss and epsilon: delta from 1 to 1e-200."""
    epsilon = (near + mu / 2) * mu
    if 0 <= epsilon <= 700:
        assert 0 <= relative_error(mu, epsilon) <= 2 * RELATIVE_ERROR


@pytest.mark.parametrize("mu", [1e-12, 1e-6])
def test_delta_of_very_much_noise_does_not_cancel(mu):
    for epsilon in (0.0, mu / 3, 5 * mu):
        assert 0 <= relative_error(mu, epsilon) <= 2 * RELATIVE_ERROR


@pytest.mark.parametrize("mu", MUS)
@pytest.mark.parametrize("delta", DELTAS)
def test_epsilon_is_the_least_upper_bound(mu, delta):
    """From both sides: at the claimed epsilon the exact delta is kept, and 1e-8 of it below it is not."""
    epsilon = gaussian_epsilon(mu, delta)
    if epsilon == math.inf:
        assert exact_delta(mu, 500) > delta
    else:
        assert exact_delta(mu, epsilon) <= delta
        assert epsilon == 0 or exact_delta(mu, epsilon * (1 - 1e-8)) > delta


@pytest.mark.parametrize("delta", [1e-8, 1e-12, 1e-20])
def test_epsilon_of_one_release_at_small_delta(delta):
    """Golden: mu = 3; mpmath, by bisection of `exact_delta`."""
    low, high = mpmath.mpf(0), mpmath.mpf(100)
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if exact_delta(3, middle) > delta else (low, middle)
    plan = ReleasePlan(purpose="test", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=1 / 3)
    assert epsilon_of([plan.event(1)], delta) == pytest.approx(float(high), rel=1e-8)


@pytest.mark.parametrize("epsilon", [0.01, 1.0, 10.0, 400.0])
@pytest.mark.parametrize("delta", DELTAS)
def test_mu_is_the_largest_to_rounding(epsilon, delta):
    mu = gaussian_mu(epsilon, delta)
    assert exact_delta(mu, epsilon) <= delta < exact_delta(mu * (1 + 1e-8), epsilon)


@pytest.mark.parametrize("mu", [1e-300, 1e-3, 1.0, 40.0, 1e10, 1e200])
@pytest.mark.parametrize("epsilon", [0.0, 1e-300, 1.0, 500.0])
def test_delta_is_a_probability_at_any_extreme(mu, epsilon):
    assert 0 <= gaussian_delta(mu, epsilon) <= 1
