"""Accounting by Renyi divergences, which know what the best of several runs costs; the accountant of `Selection`."""

import math
from collections.abc import Sequence

import dp_accounting
import numpy as np
from dp_accounting.dp_event import RepeatAndSelectDpEvent
from numpy.typing import NDArray

# near 1, since a selection's constant is least there; then ever sparser
ORDERS = np.concatenate([1 + np.geomspace(1e-3, 0.1, 8), np.arange(1.2, 12, 0.1), np.geomspace(12, 1024, 60)])
_RELATIVE_ROUNDING, _ROUNDING = 1e-12, 1e-14  # by which the integral of a divergence is rounded up
_LARGEST = 600.0  # exponents beyond it are called infinite; no order with such a one says anything


def renyi_epsilon(events: Sequence[dp_accounting.DpEvent], delta: float) -> float:
    """Epsilon of events together by their Renyi divergences, for one record added or removed.

    Args:
        events: Gaussian events, on all records or on a Poisson sample, repeated, composed or selected among.
        delta: in (0, 1).

    Raises:
        ValueError: an event of another kind.

    Formal guarantee: an upper bound; see `renyi_divergences`.
    Edge cases: an event without noise gives infinity.

    Source: Canonne et al. 2020, Proposition 12.
    """
    total = sum((renyi_divergences(event) for event in events), np.zeros_like(ORDERS))
    epsilons = total + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    assert not np.isnan(epsilons).any()
    return max(0.0, float(epsilons.min()))


def renyi_divergences(event: dp_accounting.DpEvent) -> NDArray[np.float64]:
    """[orders] how far, at most, one record moves the event's outcome, at each of `ORDERS`.

    Raises:
        ValueError: an event of another kind than `renyi_epsilon` knows.

    Source: Mironov 2017, Corollary 3; Mironov et al. 2019, Theorem 5.
    """
    if isinstance(event, RepeatAndSelectDpEvent):
        return _of_selection(renyi_divergences(event.event), event.mean, event.shape)
    if isinstance(event, dp_accounting.ComposedDpEvent):
        return sum(map(renyi_divergences, event.events), np.zeros_like(ORDERS))
    if isinstance(event, dp_accounting.SelfComposedDpEvent):
        return event.count * renyi_divergences(event.event)
    is_sampled = isinstance(event, dp_accounting.PoissonSampledDpEvent)
    gaussian = event.event if is_sampled else event
    if not isinstance(gaussian, dp_accounting.GaussianDpEvent):
        raise ValueError(
            "no accountant knows the best of several runs that sample shards, or several records of one person; set "
            "shards.sampling_prob=1, or privacy.records_per_person=1"
        )
    if gaussian.noise_multiplier == 0:
        return np.full_like(ORDERS, math.inf)
    if not is_sampled or event.sampling_probability == 1:
        return ORDERS / (2 * gaussian.noise_multiplier**2)
    return np.array([_of_sampled(order, event.sampling_probability, gaussian.noise_multiplier) for order in ORDERS])


def _of_sampled(order: float, sampling_prob: float, noise: float) -> float:
    """Of a Gaussian mechanism on a Poisson sample: log E[(1 - q + q exp((2 x - 1) / (2 s^2)))^order] / (order - 1).

    x is normal of deviation s. The trapezoidal rule errs less than floats are rounded where the integrand is analytic
    as far from the real line as here, pi s^2, and steps are this fine.
    """
    if order * (order - 1) / (2 * noise**2) > _LARGEST:
        return math.inf
    step = min(noise, noise**2) / 20
    x = np.arange(-12 * noise, order + 12 * noise + step, step)
    log_density = -((x / noise) ** 2) / 2 + math.log(step / (noise * math.sqrt(2 * math.pi)))
    exponent = (2 * x - 1) / (2 * noise**2)
    power = order * np.logaddexp(math.log1p(-sampling_prob), math.log(sampling_prob) + exponent)
    # the power less 1, so that a small divergence keeps its digits; a large one with the density, as it would overflow
    small = np.exp(log_density) * np.expm1(np.minimum(power, 40.0))
    terms = np.where(power < 40, small, np.exp(np.maximum(power, 40.0) + log_density))
    return math.log1p(float(terms.sum()) * (1 + _RELATIVE_ROUNDING) + _ROUNDING) / (order - 1)


def _of_selection(divergences: NDArray[np.float64], mean: float, shape: float) -> NDArray[np.float64]:
    """Of the best of a random number of runs, from those of one run.

    Source: Papernot and Steinke 2022, Theorem 2 for geometric (shape 1) and logarithmic (shape 0) numbers, Theorem 6
    for Poisson (infinite shape). The latter asks for a delta of one run at log(1 + 1 / (order - 1)), which follows from
    its divergences.
    """
    outside = divergences + math.log(mean) / (ORDERS - 1)
    if shape == math.inf:
        small = np.log1p(1 / (ORDERS - 1))
        logs = (ORDERS - 1) * (divergences - small[:, None] + np.log1p(-1 / ORDERS)) - np.log(ORDERS)
        return outside + mean * np.exp(np.minimum(0.0, logs.min(axis=1)))
    halting = 1 / mean if shape == 1 else logarithmic_halting(mean)
    return outside + (1 + shape) * ((1 - 1 / ORDERS) * divergences - math.log(halting) / ORDERS).min()


def logarithmic_halting(mean: float) -> float:
    """The parameter gamma of a logarithmic distribution of that mean, (1 / gamma - 1) / log(1 / gamma); mean > 1."""
    low, high = 1e-6, 1.0  # means of 72,000 and 1
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if (1 / middle - 1) / -math.log(middle) <= mean else (middle, high)
    return high
