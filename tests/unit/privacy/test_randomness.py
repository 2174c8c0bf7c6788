from itertools import pairwise

import mpmath
import pytest
import torch
from scipy.stats import binom, chisquare, kstest, norm

from dpsad.privacy import randomness as randomness_module
from dpsad.privacy.randomness import PrivateRandomness, poisson_sample

NUM, DRAWS = 50, 4000
GPU = pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"))


@pytest.fixture(params=["cpu", "chacha", GPU])
def device(request, monkeypatch):
    """Where numbers are drawn; "chacha" is the CPU with the generator that draws elsewhere."""
    if request.param == "chacha":
        monkeypatch.setattr(randomness_module, "shake_words", randomness_module.chacha_words)
        return "cpu"
    return request.param


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


def test_secret_numbers_differ_and_fixed_ones_repeat(device):
    """Two secret draws agree with probability 2^-200 at most."""

    def draw(seed=None):
        randomness = PrivateRandomness(device, seed=seed)
        return randomness.rounded_normal((8,), 2.0**30).tolist(), randomness.uniform(4).tolist()

    def differ(one, other):
        return all(part != other_part for part, other_part in zip(one, other, strict=True))

    assert differ(draw(), draw())
    assert draw(seed=3) == draw(seed=3)
    assert differ(draw(seed=3), draw(seed=4))


@pytest.mark.parametrize("seed", [None, 0])
def test_numbers_have_their_distributions(device, seed):
    """Kolmogorov-Smirnov, two-sided, across the border of two blocks; false alarm below 1e-6 each."""
    randomness = PrivateRandomness(device, seed=seed)
    assert kstest(randomness.uniform(100_001).numpy(), "uniform").pvalue > 1e-6
    normals = randomness.normal((100_001,)).cpu()
    assert normals.dtype == torch.float32
    assert kstest(normals.double().numpy(), "norm").pvalue > 1e-6
    halves = normals[:50_000], normals[50_001:]
    assert abs(torch.corrcoef(torch.stack(halves).square())[0, 1]) < 5 / 50_000**0.5


def test_normals_reach_as_far_as_they_should(device):
    """Chi-square of the tails beyond 3, 3.5, 4 and 4.5 deviations on each side, of 2 million; false alarm 1e-6."""
    edges = torch.tensor([-4.5, -4, -3.5, -3, 3, 3.5, 4, 4.5])
    counts = torch.bucketize(PrivateRandomness(device, seed=0).normal((2_000_000,)).cpu(), edges).bincount(minlength=9)
    shares = [0.0, *norm.cdf(edges), 1.0]
    expected = [2_000_000 * (high - low) for low, high in pairwise(shares)]
    assert chisquare(counts.numpy(), expected).pvalue > 1e-6


def test_a_key_of_256_bits_comes_from_the_operating_system(monkeypatch):
    """The same bytes give the same number, one byte of another value another: nothing else stands between."""
    asked = []
    monkeypatch.setattr("os.urandom", lambda num: asked.append(num) or bytes(num))
    zero = PrivateRandomness().uniform(1).item()
    assert PrivateRandomness().uniform(1).item() == zero
    assert asked == [32, 32]
    for place in range(32):
        changed = bytes(place) + b"\x01" + bytes(31 - place)
        monkeypatch.setattr("os.urandom", lambda num, changed=changed: changed)
        assert PrivateRandomness().uniform(1).item() != zero


@pytest.mark.parametrize("seed", [None, 7])
def test_a_saved_key_draws_the_same_again_and_nothing_of_before(seed):
    randomness = PrivateRandomness(seed=seed)
    before = randomness.uniform(5)
    state = randomness.state_dict()
    after = [randomness.rounded_normal((3,), 50.0).tolist(), randomness.uniform(2).tolist()]
    resumed = PrivateRandomness(seed=seed)
    resumed.load_state_dict(state)
    assert [resumed.rounded_normal((3,), 50.0).tolist(), resumed.uniform(2).tolist()] == after
    resumed.load_state_dict(state)
    assert not set(before.tolist()) & set(resumed.uniform(5).tolist())
    assert state["key"] != randomness.state_dict()["key"], "every draw replaces the key"


def test_a_secret_key_is_good_for_its_place_alone_and_a_fixed_one_anywhere():
    """A copy of a run that goes on elsewhere, where sums may be others, shares no noise with the first."""
    state = PrivateRandomness().state_dict()

    def draw(place, seed=None):
        randomness = PrivateRandomness(seed=seed, place=place)
        randomness.load_state_dict(state)
        return randomness.uniform(4).tolist()

    assert draw("here") == draw("here") != draw("there")
    assert draw("here", seed=1) == draw("there", seed=1)


def test_stages_have_streams_of_their_own():
    """Fixed ones whatever was drawn before; secret ones are new each time, even of one name."""
    fixed, secret = PrivateRandomness(seed=1), PrivateRandomness()
    first = fixed.named("refine").uniform(3).tolist()
    fixed.uniform(3)
    assert fixed.named("refine").uniform(3).tolist() == first != fixed.named("guide").uniform(3).tolist()
    assert fixed.named("refine").repeatable
    assert secret.named("refine").uniform(3).tolist() != secret.named("refine").uniform(3).tolist()


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 5)])
def test_normals_have_the_shape_asked_for(device, shape):
    normals = PrivateRandomness(device).normal(shape)
    assert normals.shape == shape
    assert normals.isfinite().all()


def exact_normals(words, scale):
    """Box and Muller's formula for 63-bit words, [2 * half], in 200 bits."""
    half = len(words) // 2
    with mpmath.workprec(200):
        u, v = ([(mpmath.mpf(word) + 0.5) / 2**63 for word in part] for part in (words[:half], words[half:]))
        radius = [scale * mpmath.sqrt(-2 * mpmath.log(number)) for number in u]
        waves = [[wave(2 * mpmath.pi * number) for number in v] for wave in (mpmath.cos, mpmath.sin)]
        return [r * w for wave in waves for r, w in zip(radius, wave, strict=True)]


@pytest.mark.parametrize("scale", [0.3, 37.5 * 2**22, 2.0**28])
def test_noise_is_the_rounding_of_exactly_normal_numbers(device, scale):
    """The words' remaining bits move a number by less than 2^-40 of the scale, away from where the formula is steep."""
    words = PrivateRandomness(seed=5)._bits(600, 63, torch.device(device)).tolist()
    rounded = PrivateRandomness(device, seed=5).rounded_normal((20, 30), scale)
    assert rounded.dtype == torch.float64
    for number, expected in zip(rounded.flatten().tolist(), exact_normals(words, scale), strict=True):
        assert abs(number - expected) <= 0.5 + scale * 2.0**-40


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_float64_errs_by_less_than_is_allowed_for(device):
    """By a fourth of the bound at most, on 4,000 numbers and on the hardest: steep logarithms and flat roots."""
    words = PrivateRandomness(seed=1)._bits(4000, 63)
    words[0::50], words[1::50] = 2**47 + 1, 2**63 - 2**47  # u = 2^-16, and a radius of 2^-8
    first, second = ((words.to(device).double() + 0.5) * 2.0**-63).split(2000)
    radius, angle = (-2 * first.log()).sqrt(), 2 * torch.pi * second
    computed = torch.cat([radius * angle.cos(), radius * angle.sin()]).tolist()
    worst = max(abs(a - b) for a, b in zip(computed, exact_normals(words.tolist(), 1.0), strict=True))
    assert worst < randomness_module.ERROR / 4


def test_numbers_that_float64_leaves_open_are_worked_out_with_more_bits(monkeypatch):
    """All of them, where float64 is trusted with nothing; and on the side that the bits drawn later say."""
    scale = 2.0**26
    usual = PrivateRandomness(seed=2).rounded_normal((301,), scale)
    monkeypatch.setattr(randomness_module, "ERROR", 1.0)
    calls = []
    exact = randomness_module._rounded_pair
    monkeypatch.setattr(randomness_module, "_rounded_pair", lambda *bits: calls.append(bits) or exact(*bits))
    assert torch.equal(PrivateRandomness(seed=2).rounded_normal((301,), scale), usual)
    assert len(calls) == 151
    u = int(0.3 * 2**126)
    with mpmath.workprec(200):  # of the normal number that is a whole number and a half
        half_way = 12345.5 / mpmath.sqrt(-2 * mpmath.log((u + mpmath.mpf(0.5)) / 2**126))
    assert [exact(u + later, 0, half_way)[0] for later in (-(2**20), 2**20)] == [12346, 12345]


@pytest.mark.parametrize("seed", [None, 0])
def test_rounded_noise_has_its_distribution(device, seed):
    """Kolmogorov-Smirnov on a fine grid, chi-square on a coarse one and last bits, two-sided; false alarm 1e-6 each."""
    randomness = PrivateRandomness(device, seed=seed)
    fine = randomness.rounded_normal((100_001,), 2.0**24).cpu()
    assert kstest((fine / 2**24).numpy(), "norm").pvalue > 1e-6
    assert abs((fine % 2).mean().item() - 0.5) < 5 * 0.5 / 100_001**0.5
    coarse = randomness.rounded_normal((100_000,), 0.7).cpu().clamp(-3, 3).long() + 3
    edges = norm.cdf(torch.arange(-2.5, 3) / 0.7)
    shares = [edges[0], *(edges[1:] - edges[:-1]), 1 - edges[-1]]
    assert chisquare(coarse.bincount(minlength=7).numpy(), [100_000 * share for share in shares]).pvalue > 1e-6


def test_noise_of_no_scale_is_zero_and_shapes_are_kept():
    for shape in ((), (0,), (1,), (3, 5)):
        assert torch.equal(PrivateRandomness().rounded_normal(shape, 0.0), torch.zeros(shape, dtype=torch.float64))
        assert PrivateRandomness().rounded_normal(shape, 9.0).shape == shape


def test_no_record_joins_more_often_than_was_accounted(monkeypatch):
    """The largest words that join, and the smallest that do not, at a probability that is no multiple of 2^-53."""
    prob = 0.3
    limit = int(prob * 2**53)
    for word, joins in ((0, True), (limit - 1, True), (limit, False), (2**53 - 1, False)):
        words = torch.tensor([word])
        monkeypatch.setattr(PrivateRandomness, "_bits", lambda self, num, size, words=words: words)
        assert PrivateRandomness().happens(1, prob).item() is joins
        assert PrivateRandomness().happens(1, 1.0).item()
    assert limit / 2**53 <= prob
