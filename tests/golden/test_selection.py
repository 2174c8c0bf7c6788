"""What the best of several runs costs, against the theorems of Papernot and Steinke 2022 written out anew."""

import math

import numpy as np
import pytest
from dp_accounting import GaussianDpEvent
from scipy.optimize import brentq

from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.gaussian import gaussian_delta
from dpsad.privacy.selection import Selection

DELTA = 1e-5
ORDERS = np.concatenate([1 + np.geomspace(1e-5, 11, 8000), np.linspace(12, 400, 4000)])


def epsilon_from(renyi):
    """Canonne et al. 2020, Proposition 12."""
    epsilons = renyi + np.log1p(-1 / ORDERS) - (math.log(DELTA) + np.log(ORDERS)) / (ORDERS - 1)
    return float(epsilons.min())


def theorem_2(mu, mean, shape, halting):
    """Truncated negative binomial; Gaussian mechanisms are of Renyi divergence mu^2 / 2 times the order."""
    renyi = ORDERS * mu**2 / 2
    constant = (1 + shape) * np.min((1 - 1 / ORDERS) * renyi + math.log(1 / halting) / ORDERS)
    return epsilon_from(renyi + constant + math.log(mean) / (ORDERS - 1))


def theorem_6(mu, mean, delta_at):
    """Poisson; `delta_at` says for which delta one run is (log(1 + 1 / (order - 1)), delta)-private."""
    deltas = np.array([delta_at(math.log1p(1 / (order - 1))) for order in ORDERS])
    return epsilon_from(ORDERS * mu**2 / 2 + mean * deltas + math.log(mean) / (ORDERS - 1))


@pytest.mark.parametrize("mu", [0.1, 0.7, 2.0])
@pytest.mark.parametrize("mean", [1.5, 4.0, 20.0])
def test_geometric_and_logarithmic_numbers_of_runs_cost_what_theorem_2_says(mu, mean):
    """The accountant knows fewer orders than are tried here, so that it may say a little more and never less."""
    halting = brentq(lambda gamma: (1 / gamma - 1) / math.log(1 / gamma) - mean, 1e-9, 1 - 1e-9, xtol=1e-14)
    for name, shape, gamma in (("geometric", 1, 1 / mean), ("logarithmic", 0, halting)):
        exact = theorem_2(mu, mean, shape, gamma)
        found = epsilon_of([Selection(repetitions=name, mean=mean).event([GaussianDpEvent(1 / mu)])], DELTA)
        assert exact * (1 - 1e-9) <= found <= 1.01 * exact


@pytest.mark.parametrize(("mu", "mean"), [(0.1, 4.0), (0.7, 1.5), (0.7, 20.0), (2.0, 4.0)])
def test_a_poisson_number_of_runs_costs_what_theorem_6_says(mu, mean):
    """At least what it says of the exact delta of one run, at most what it says of a delta from Renyi divergences."""

    def rough(epsilon):
        tried = (ORDERS - 1) * (ORDERS * mu**2 / 2 - epsilon + np.log1p(-1 / ORDERS)) - np.log(ORDERS)
        return min(1.0, math.exp(tried.min()))

    found = epsilon_of([Selection(repetitions="poisson", mean=mean).event([GaussianDpEvent(1 / mu)])], DELTA)
    assert theorem_6(mu, mean, lambda epsilon: gaussian_delta(mu, epsilon)) <= found
    assert found <= 1.01 * theorem_6(mu, mean, rough)


def test_runs_of_several_releases_are_composed_before_one_is_chosen():
    """Two releases of mu 0.6 and 0.8 are one of mu 1; and each repetition pays for both."""
    selection = Selection(mean=4.0)
    together = epsilon_of([selection.event([GaussianDpEvent(1 / 0.6), GaussianDpEvent(1 / 0.8)])], DELTA)
    assert together == pytest.approx(epsilon_of([selection.event([GaussianDpEvent(1.0)])], DELTA), rel=1e-9)
    beside = epsilon_of([selection.event([GaussianDpEvent(1 / 0.6)]), GaussianDpEvent(1 / 0.8)], DELTA)
    assert beside < together, "what is released once, beside the choice, costs less than what is repeated"
