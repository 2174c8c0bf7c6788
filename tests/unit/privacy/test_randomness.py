import pytest
import torch
from scipy.stats import binom, kstest

from dpsad.privacy.randomness import PrivateRandomness, poisson_sample

NUM, DRAWS = 50, 4000


def joined(sampling_prob):
    """[DRAWS, NUM] whether each record is in each batch."""
    randomness = PrivateRandomness(seed=0)
    members = torch.zeros(DRAWS, NUM, dtype=torch.bool)
    for row in members:
        row[poisson_sample(NUM, sampling_prob, randomness)] = True
    return members


@pytest.mark.parametrize("sampling_prob", [0.02, 0.3, 0.9])
def test_every_record_joins_with_the_given_probability(sampling_prob):
    """Two-sided exact test for each of 50 records; false alarm below 1e-6 in all."""
    counts = joined(sampling_prob).sum(0).numpy()
    low, high = binom.ppf([1e-8, 1 - 1e-8], DRAWS, sampling_prob)
    assert ((low <= counts) & (counts <= high)).all()


def test_records_join_independently():
    """Two-sided test of all 1,225 pairs, and of the size's variance, which a fixed size makes 0; false alarm 1e-6."""
    members = joined(0.3).double()
    centred = (members - 0.3) / (0.3 * 0.7) ** 0.5
    correlation = (centred.T @ centred / DRAWS).triu(1)
    assert correlation.abs().max() < 6.5 / DRAWS**0.5
    ratio = (members.sum(1) - NUM * 0.3).square().mean() / (NUM * 0.3 * 0.7)
    assert abs(ratio.item() - 1) < 5.1 * (2 / DRAWS) ** 0.5


def test_indices_rise_without_repetition_and_empty_batches_happen():
    randomness = PrivateRandomness(seed=0)
    batches = [poisson_sample(NUM, 0.02, randomness) for _ in range(100)]
    assert {0, 1} <= {len(batch) for batch in batches}
    assert all(batch.tolist() == sorted(set(batch.tolist())) for batch in batches)
    assert all(batch.dtype == torch.int64 for batch in batches)


def test_probability_one_takes_everyone():
    assert poisson_sample(5, 1.0, PrivateRandomness()).tolist() == [0, 1, 2, 3, 4]


def test_secret_numbers_differ_and_fixed_ones_repeat():
    """Two secret draws agree with probability 2^-212 at most."""

    def draw(seed=None):
        return PrivateRandomness(seed=seed).uniform(4).tolist()

    assert draw() != draw()
    assert draw(seed=3) == draw(seed=3) != draw(seed=4)


@pytest.mark.parametrize("seed", [None, 0])
def test_numbers_have_their_distributions(seed):
    """Kolmogorov-Smirnov, two-sided; false alarm below 1e-6 each."""
    randomness = PrivateRandomness(seed=seed)
    assert kstest(randomness.uniform(100_001).numpy(), "uniform").pvalue > 1e-6
    normals = randomness.normal((100_001,))
    assert kstest(normals.double().numpy(), "norm").pvalue > 1e-6
    halves = normals[:50_000], normals[50_001:]
    assert abs(torch.corrcoef(torch.stack(halves).square())[0, 1]) < 5 / 50_000**0.5


def test_every_bit_comes_from_the_operating_system(monkeypatch):
    """The same bytes give the same number, one byte of another value another: nothing else stands between."""
    monkeypatch.setattr("os.urandom", lambda num: bytes(num))
    zero = PrivateRandomness().uniform(1).item()
    assert PrivateRandomness().uniform(1).item() == zero
    for place in range(6):
        changed = bytes(place) + b"\x01" + bytes(7 - place)
        monkeypatch.setattr("os.urandom", lambda num, changed=changed: changed)
        assert PrivateRandomness().uniform(1).item() != zero


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5)])
def test_normals_have_the_shape_asked_for(shape):
    normals = PrivateRandomness().normal(shape)
    assert normals.shape == shape
    assert normals.isfinite().all()
