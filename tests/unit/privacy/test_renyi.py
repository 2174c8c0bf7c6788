import math

import dp_accounting
import numpy as np
import pytest
from dp_accounting import GaussianDpEvent, LaplaceDpEvent, PoissonSampledDpEvent, SelfComposedDpEvent, rdp
from dp_accounting.dp_event import RepeatAndSelectDpEvent
from scipy.integrate import quad

from dpsad.privacy import renyi
from dpsad.privacy.renyi import renyi_divergences, renyi_epsilon

DELTA = 1e-5
SAMPLED = [(0.03, 1.0), (0.487, 1.5), (0.001, 0.8), (0.01, 50.0), (0.9, 0.4)]


def sampled(sampling_prob, noise):
    return PoissonSampledDpEvent(sampling_prob, GaussianDpEvent(noise))


@pytest.mark.parametrize(("sampling_prob", "noise"), SAMPLED)
def test_whole_orders_are_those_of_the_binomial_sum(sampling_prob, noise, monkeypatch):
    """Mironov et al. 2019, section 3.3, as dp_accounting computes it; never less, and no more than its rounding."""
    orders = np.array([2.0, 3.0, 5.0, 9.0])
    monkeypatch.setattr(renyi, "ORDERS", orders)
    binomial = [
        math.log(
            math.fsum(
                math.comb(order, k) * sampling_prob**k * (1 - sampling_prob) ** (order - k)
                * math.expm1(k * (k - 1) / (2 * noise**2))
                for k in range(2, order + 1)
            )
            + 1
        )
        / (order - 1)
        for order in map(int, orders)
    ]  # fmt: skip
    found = renyi_divergences(sampled(sampling_prob, noise))
    assert np.allclose(found, binomial, rtol=1e-6 if noise > 10 else 1e-8, atol=1e-13)


@pytest.mark.parametrize(("sampling_prob", "noise"), SAMPLED)
def test_orders_between_are_integrals(sampling_prob, noise, monkeypatch):
    orders = np.array([1.01, 1.1, 1.7, 2.5])
    monkeypatch.setattr(renyi, "ORDERS", orders)

    def integral(order):
        def integrand(x):
            likelihood = math.log1p(sampling_prob * math.expm1((2 * x - 1) / (2 * noise**2)))
            return math.exp(-((x / noise) ** 2) / 2) * math.expm1(order * likelihood)

        value, _ = quad(integrand, -10 * noise, order + 10 * noise, points=[0, 0.5, order], limit=500, epsrel=1e-11)
        return math.log1p(value / (noise * math.sqrt(2 * math.pi))) / (order - 1)

    found = renyi_divergences(sampled(sampling_prob, noise))
    assert found == pytest.approx([integral(order) for order in orders], rel=1e-5, abs=3e-12)


@pytest.mark.parametrize("shape", [0.0, 1.0, math.inf])
@pytest.mark.parametrize(("noise", "count"), [(1.0, 2000), (0.8, 100)])
def test_a_selection_costs_no_more_than_the_librarys_accountant_says_and_hardly_less(shape, noise, count):
    """It knows the same theorems at fewer orders."""
    event = RepeatAndSelectDpEvent(SelfComposedDpEvent(sampled(0.03, noise), count), 4.0, shape)
    library = rdp.RdpAccountant().compose(event).get_epsilon(DELTA)
    assert 0.96 * library < renyi_epsilon([event], DELTA) <= library * (1 + 1e-9)


def test_without_noise_there_is_no_bound_and_what_is_not_gaussian_is_refused():
    assert renyi_epsilon([RepeatAndSelectDpEvent(GaussianDpEvent(0.0), 4.0, 1.0)], DELTA) == math.inf
    assert renyi_epsilon([RepeatAndSelectDpEvent(GaussianDpEvent(1e-3), 4.0, 1.0)], DELTA) > 500
    assert renyi_epsilon([sampled(0.5, 0.01)], DELTA) > 500
    with pytest.raises(ValueError, match=r"set shards\.sampling_prob=1"):
        renyi_epsilon([LaplaceDpEvent(1.0)], DELTA)


@pytest.mark.parametrize("sampling_prob", [1e-4, 0.02, 0.5, 0.99])
@pytest.mark.parametrize("noise", [0.05, 0.3, 1.0, 10.0, 1e3])
def test_a_sample_costs_less_than_all_and_more_than_nothing_at_every_order(sampling_prob, noise):
    """No order is lost to an overflow, and none says less than nothing."""
    found, unsampled = renyi_divergences(sampled(sampling_prob, noise)), renyi_divergences(GaussianDpEvent(noise))
    assert not np.isnan(found).any()
    assert (found > 0).all()
    assert math.isfinite(found[0])
    both = np.minimum(found, 1e300)
    assert (found <= unsampled * (1 + 1e-9) + 1e-10)[np.isfinite(found)].all()
    assert (np.diff(both) >= -1e-9 * both[1:] - 1e-10).all(), "divergences rise with their order"


def test_composition_adds_divergences():
    parts = [GaussianDpEvent(1.0), SelfComposedDpEvent(sampled(0.1, 2.0), 7)]
    composed = renyi_divergences(dp_accounting.ComposedDpEvent(parts))
    assert np.allclose(composed, renyi_divergences(parts[0]) + 7 * renyi_divergences(sampled(0.1, 2.0)))
