import json
import math
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import chi2, geom, logser, poisson

from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.ledger import BudgetExceeded, Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.selection import Selection

MEAN = 4.0


def law(name, mean=MEAN):
    """The distribution as scipy has it."""
    if name == "geometric":
        return geom(1 / mean)
    if name == "poisson":
        return poisson(mean)
    return logser(1 - brentq(lambda gamma: (1 / gamma - 1) / math.log(1 / gamma) - mean, 1e-9, 1 - 1e-9, xtol=1e-14))


def plan(noise_multiplier=2.0, purpose="test"):
    return ReleasePlan(purpose=purpose, unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=noise_multiplier)


@pytest.mark.parametrize("name", ["geometric", "logarithmic", "poisson"])
def test_the_number_of_runs_has_the_distribution_that_is_accounted(name):
    """Chi-square over the numbers 0 to 11 and the rest; a right one is rejected with probability 2e-6."""
    num, randomness, selection = 4000, PrivateRandomness(), Selection(repetitions=name, mean=MEAN)
    counts = np.bincount([min(12, selection.draw(randomness)) for _ in range(num)], minlength=13)
    expected = num * np.append(law(name).pmf(range(12)), law(name).sf(11))
    assert counts[expected == 0].sum() == 0
    some = expected > 0
    distance = ((counts - expected)[some] ** 2 / expected[some]).sum()
    assert 1e-6 < chi2.cdf(distance, df=some.sum() - 1) < 1 - 1e-6


@pytest.mark.parametrize("name", ["geometric", "logarithmic", "poisson"])
@pytest.mark.parametrize("mean", [1.01, 4.0, 60.0])
def test_probabilities_are_those_of_the_distribution(name, mean):
    found = list(islice(Selection(repetitions=name, mean=mean).probabilities(), 300))
    assert np.allclose(found, law(name, mean).pmf(range(300)), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("uniform", [2.0**-54, 1 - 2.0**-53])
@pytest.mark.parametrize("name", ["geometric", "logarithmic", "poisson"])
def test_a_number_is_drawn_at_either_end(name, uniform, monkeypatch):
    monkeypatch.setattr(PrivateRandomness, "uniform", lambda self, num: np.array([uniform]))
    number = Selection(repetitions=name, mean=MEAN).draw(PrivateRandomness())
    assert number == int(name != "poisson") if uniform < 0.5 else 15 < number < 500


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"repetitions": "fixed"}, "repetitions='fixed' must be one of logarithmic, geometric, poisson"),
        ({"mean": 1.0}, r"mean=1.0 must be in \(1, 500\]"),
        ({"mean": math.nan}, "mean=nan must be in"),
    ],
)
def test_other_numbers_of_runs_are_refused(told, message):
    with pytest.raises(ValueError, match=message):
        Selection(**told)


def test_a_ledger_of_a_selection_pays_for_all_that_was_tried():
    selection = Selection(mean=MEAN)
    ledger = Ledger(20.0, 1e-5, selection=selection)
    assert ledger.spent() == 0
    ledger.charge(plan(2.0))
    ledger.charge(plan(20.0, "score"))
    once = Ledger(20.0, 1e-5, entries=ledger.entries)
    assert ledger.spent() == epsilon_of([selection.event([entry.event(1) for entry in ledger.entries])], 1e-5)
    assert ledger.spent() > 1.3 * once.spent()
    tight = replace(ledger, epsilon=0.99 * ledger.spent(), entries=[])
    tight.charge(plan(20.0, "score"))
    with pytest.raises(BudgetExceeded):
        tight.charge(plan(2.0))
    statement = json.loads(json.dumps(ledger.statement()))
    assert statement["epsilon"] == ledger.spent()
    assert statement["selection"] == {"repetitions": "geometric", "mean": MEAN}
    assert statement["accountant"] == "dpsad.privacy.renyi"


def test_a_saved_ledger_of_a_selection_stays_one_and_no_other_run_goes_on_from_it():
    ledger = Ledger(20.0, 1e-5, selection=Selection(repetitions="poisson", mean=3.0))
    ledger.charge(plan(2.0))
    again = Ledger(1.0, 1e-6)
    again.load_state_dict(ledger.state_dict())
    assert again == ledger
    with pytest.raises(ValueError, match="cannot be gone on from"):
        Ledger(20.0, 1e-5).take_over(ledger.state_dict())
    with pytest.raises(AssertionError, match="only adds up"):
        ledger.calibrate(plan())
    unused = Ledger(1.0, 1e-5, selection=Selection())
    unused.load_state_dict(Ledger(1.0, 1e-5).state_dict())
    assert unused.selection is None


def test_sampled_shards_and_sampled_records_of_one_person_say_what_to_set():
    sampled = ReleasePlan(purpose="test", unit=Unit.SHARD, clip_norm=1.0, noise_multiplier=20.0, sampling_prob=0.5)
    with pytest.raises(ValueError, match=r"set shards\.sampling_prob=1, or privacy\.records_per_person=1"):
        Ledger(20.0, 1e-5, selection=Selection()).charge(sampled)
    with pytest.raises(ValueError, match=r"set shards\.sampling_prob=1, or privacy\.records_per_person=1"):
        Ledger(20.0, 1e-5, records_per_person=2, selection=Selection()).charge(replace(sampled, unit=Unit.RECORD))
