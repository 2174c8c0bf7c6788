"""What leaves through the sanitizer: how far one record moves it, how noisy it is, and what it refuses."""

import json
import math
import weakref
from dataclasses import replace

import pytest
import torch
from scipy.stats import binom, norm

from dpsad.diffusion.parameterisations import lognormal_quantiles
from dpsad.methods.dp_sad.prototype_rows import record_rows
from dpsad.methods.dp_sad.prototypes import propose_prototypes
from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.clipping import BlockRows, PartedRows
from dpsad.privacy.ledger import BudgetExceeded, Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness, poisson_sample
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.training.dp_sgd import denoising_rows

DIM = 300


def sanitizer(*, clip_norm=0.5, noise_multiplier=2.0, num_releases=1, ledger=None, seed=0):
    plan = ReleasePlan(
        purpose="test",
        unit=Unit.RECORD,
        clip_norm=clip_norm,
        noise_multiplier=noise_multiplier,
        num_releases=num_releases,
    )
    return Sanitizer(plan, ledger or Ledger(math.inf, 1e-5), PrivateRandomness(seed=seed))


def movement(chunks, more, shape, **plan):
    """How far the release moves when `more` joins `chunks`, under the same noise."""
    before = sanitizer(**plan).release(chunks, shape)
    return (sanitizer(**plan).release([*chunks, *more], shape) - before).norm().item()


def untouchable():
    """Rows that nobody may look at."""
    pytest.fail("rows were looked at")
    yield


@pytest.fixture
def rows(rng):
    return torch.randn(50, DIM, generator=rng)


ADVERSARIES = {
    "huge": lambda rows: 1e15 * rows[0],
    "aligned with the sum": lambda rows: rows.sum(0),
    "against the sum": lambda rows: -rows.sum(0),
    "one number": lambda rows: torch.eye(DIM)[7] * 1e4,
    "tiny": lambda rows: 1e-3 * rows[0],
    "zero": lambda rows: torch.zeros(DIM),
    "overflowing": lambda rows: 1e30 * rows[0],
    "nan": lambda rows: torch.full((DIM,), math.nan),
    "one infinity": lambda rows: rows[0].clone().index_fill_(0, torch.tensor([3]), math.inf),
}


@pytest.mark.parametrize("name", ADVERSARIES)
@pytest.mark.parametrize("form", [lambda row: row, lambda row: PartedRows(list(row.split([100, 200], dim=1)))])
def test_one_record_moves_the_release_by_its_clipped_norm_and_no_further(rows, name, form):
    row = ADVERSARIES[name](rows)
    norm = row.norm().item()
    expected = min(norm, 0.5) if math.isfinite(norm) else 0.0
    moved = movement([rows], [form(row[None])], (DIM,))
    assert moved == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("pixel", [0.0, 1.0, -3.0, 1e10, 1e30, math.nan, math.inf])
def test_one_record_moves_the_sketch_by_at_most_one(rng, pixel):
    """Attained by every image that is further from its prototype than the bound."""
    images = torch.rand(30, 1, 4, 4, generator=rng) * 2 - 1
    more = torch.full((1, 1, 4, 4), pixel)
    centres = torch.rand(2, 3, 1, 4, 4, generator=rng) - 0.5
    bound, count_share = 1.5, 0.1
    by_class = [torch.arange(0, 15), torch.arange(15, 30)]
    proposal = propose_prototypes(centres)
    chunks = list(record_rows(images, by_class, proposal, bound, count_share))
    (row,) = record_rows(more, [torch.tensor([0]), torch.tensor([], dtype=torch.int64)], proposal, bound, count_share)
    assert all(chunk.values.norm(dim=1).max() <= 1 + 1e-6 for chunk in [*chunks, row])
    moved = movement(chunks, [row], (6, 17), clip_norm=1.0)
    assert moved <= 1 + 1e-5
    if pixel in (1.0, -3.0, 1e10):
        assert moved == pytest.approx(1, abs=1e-5)
    if pixel in (1e30, math.inf) or math.isnan(pixel):
        assert moved == pytest.approx(math.sqrt(count_share), abs=1e-5)


def test_a_sketch_row_is_a_function_of_its_record_alone(rng):
    images = torch.rand(20, 1, 4, 4, generator=rng) * 2 - 1
    centres = torch.rand(1, 3, 1, 4, 4, generator=rng) - 0.5
    proposal = propose_prototypes(centres)
    (together,) = record_rows(images, [torch.arange(20)], proposal, 1.0, 0.1)
    for index in range(20):
        (alone,) = record_rows(images[index : index + 1], [torch.tensor([0])], proposal, 1.0, 0.1)
        assert torch.equal(alone.values[0], together.values[index])
        assert alone.block[0] == together.block[index]


@pytest.mark.parametrize("pixel", [0.0, 1.0, 1e4])
@pytest.mark.parametrize("bound_to_norm", [0.1, 0.999, 1.001, 10.0])
def test_one_record_moves_refinement_by_its_clipped_gradient_and_no_further(make_denoiser, rng, pixel, bound_to_norm):
    """Each record has its own draws, so that a neighbour's draws are the same without it."""
    student = make_denoiser(channels=4, multipliers=(1,))
    images = torch.rand(4, 1, 4, 4, generator=rng) * 2 - 1
    images[3] = pixel

    def rows(index):
        rows_of = denoising_rows(
            student,
            noise_multiplicity=2,
            levels=lognormal_quantiles,
            label_dropout=0.5,
            no_label=3,
            randomness=PrivateRandomness(seed=index),
            precision="float32",
        )
        return rows_of(images[index : index + 1], torch.tensor([index % 3]))

    chunks = [rows(index) for index in range(4)]
    size = sum(part.shape[1] for part in chunks[0].parts)
    norm = torch.cat([part[0] for part in chunks[3].parts]).norm().item()
    clip_norm = bound_to_norm * norm
    moved = movement(chunks[:3], chunks[3:], (size,), clip_norm=clip_norm)
    assert moved == pytest.approx(min(norm, clip_norm), rel=1e-4)
    assert moved <= clip_norm * (1 + 1e-5)


@pytest.mark.parametrize("noise_multiplier", [3.0, 8.0])
def test_noise_has_the_planned_scale(rows, has_scale, noise_multiplier):
    """Rejects 2/3 and 3/2 of the planned scale; false alarm below 1e-6."""
    makes_noise = sanitizer(noise_multiplier=noise_multiplier, num_releases=20)
    exact = (rows * (0.5 / rows.norm(dim=1, keepdim=True)).clamp(max=1)).sum(0)
    noise = torch.stack([makes_noise.release([rows], (DIM,)) - exact for _ in range(20)])
    scale = noise_multiplier * 0.5
    assert has_scale(noise, scale)
    assert not has_scale(noise, 2 / 3 * scale)
    assert not has_scale(noise, 3 / 2 * scale)


def test_noise_does_not_depend_on_how_many_rows_there_are(rows, has_scale):
    """False alarm below 1e-6 a case."""
    for chunks in ([], [rows[:0]], [rows * 1e-9], [rows * 1e-9] * 40):
        noise = sanitizer(num_releases=1).release(chunks, (DIM,))
        assert has_scale(noise, 1.0)


def test_noise_of_releases_and_coordinates_is_independent():
    """Two-sided on correlations of 4,000 pairs; false alarm below 1e-6 each."""
    makes_noise = sanitizer(num_releases=2)
    first, second = (makes_noise.release([], (2, 4000)) for _ in range(2))
    for one, other in [(first, second), (first[0], first[1]), (first[:, 1:], first[:, :-1])]:
        correlation = (one * other).mean().item()
        assert abs(correlation) < 5 / one.numel() ** 0.5


def test_more_releases_than_planned_are_refused():
    twice = sanitizer(num_releases=2)
    for _ in range(2):
        twice.release([], (DIM,))
    with pytest.raises(ValueError, match="test: all 2 planned releases are made"):
        twice.release(untouchable(), (DIM,))


def test_overspending_is_refused_before_a_row_is_looked_at():
    ledger = Ledger(1.0, 1e-5)
    ledger.charge(ReleasePlan(purpose="before", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=10.0))
    before = ledger.state_dict()
    too_much = sanitizer(noise_multiplier=2.0, ledger=ledger)
    for _ in range(2):
        with pytest.raises(BudgetExceeded):
            too_much.release(untouchable(), (DIM,))
    assert ledger.state_dict() == before
    assert (too_much.charged, too_much.num_made) == (False, 0)


def test_a_plan_is_charged_once_whatever_happens(rows):
    ledger = Ledger(math.inf, 1e-5)
    thrice = sanitizer(num_releases=3, ledger=ledger)
    thrice.charge()
    for _ in range(3):
        thrice.release([rows], (DIM,))
    assert ledger.entries == [thrice.plan]


def test_a_resumed_plan_is_not_charged_again_and_has_what_is_left(rows):
    begun = sanitizer(num_releases=3)
    begun.release([rows], (DIM,))
    state = json.loads(json.dumps(begun.state_dict()))
    resumed = sanitizer(num_releases=3, seed=1)
    resumed.load_state_dict(state)
    for _ in range(2):
        resumed.release([rows], (DIM,))
    assert resumed.ledger.entries == begun.ledger.entries
    assert len(resumed.ledger.entries) == 1
    with pytest.raises(ValueError, match="all 3 planned releases are made"):
        resumed.release(untouchable(), (DIM,))


def test_another_plan_is_not_resumed():
    state = sanitizer(num_releases=3).state_dict()
    with pytest.raises(ValueError, match=r"was begun as .* and is now planned as"):
        sanitizer(num_releases=4).load_state_dict(state)


def test_an_empty_batch_is_pure_noise():
    expected = (PrivateRandomness(seed=0).rounded_normal((DIM,), 2.0 * 2**24) * (0.5 / 2**24)).float()
    for chunks in ([], [torch.zeros(0, DIM)], [BlockRows(torch.zeros(0, DIM), torch.zeros(0).long())]):
        shape = (1, DIM) if chunks and isinstance(chunks[0], BlockRows) else (DIM,)
        assert torch.equal(sanitizer().release(chunks, shape).flatten(), expected)


def test_chunks_are_summed_one_at_a_time_and_their_size_does_not_matter(rng):
    rows = torch.randn(60_000, 4, generator=rng)
    chunks: list[weakref.ref] = []

    def stream():
        for start in range(0, len(rows), 500):
            chunk = rows[start : start + 500].clone()
            chunks.append(weakref.ref(chunk))
            yield chunk
            del chunk
            assert sum(reference() is not None for reference in chunks) <= 1

    streamed = sanitizer().release(stream(), (4,))
    assert len(chunks) == 120
    whole = sanitizer().release([rows], (4,))
    assert torch.equal(streamed, whole)


@pytest.mark.parametrize(("sampling_prob", "noise_multiplier", "threshold"), [(1.0, 3.0, 4.5), (0.5, 1.5, 2.5)])
def test_one_persons_records_are_told_apart_as_well_as_accounted_and_better_than_one(
    sampling_prob, noise_multiplier, threshold
):
    """Three equal rows as long as the bound, there or not, by one number: is it above a threshold?

    Each side of the two-sided test has a false alarm below 1e-4, by normal limits of 4 deviations for two frequencies.
    """
    num, delta = 4000, 1e-2
    plan = ReleasePlan(
        purpose="test",
        unit=Unit.RECORD,
        clip_norm=1.0,
        noise_multiplier=noise_multiplier,
        sampling_prob=sampling_prob,
        num_releases=num,
    )
    randomness = PrivateRandomness(seed=0)

    def frequency(records):
        released = Sanitizer(plan, Ledger(math.inf, 1e-5), randomness)
        rows = torch.ones(records, 1)
        above = 0
        for _ in range(num):
            joined = poisson_sample(records, sampling_prob, randomness) if records else torch.tensor([], dtype=int)
            above += released.release([rows[joined]], (1,)).item() > threshold
        return above / num

    with_person, without = frequency(3), frequency(0)
    spread = 4 * (0.25 / num) ** 0.5
    low = with_person - 4 * (with_person * (1 - with_person) / num) ** 0.5
    high = without + 4 * max(without * (1 - without) / num, 1 / num**2) ** 0.5
    told_apart = math.log((low - delta) / high)  # the least epsilon, but for chance, that holds at delta

    once = replace(plan, num_releases=1)
    assert told_apart <= epsilon_of([once.event(3)], delta)
    assert told_apart > epsilon_of([once.event(1)], delta), "three records told no more than one is accounted for"
    joined = binom.pmf(range(4), 3, sampling_prob)
    exact = sum(prob * norm.sf(threshold, number, noise_multiplier) for number, prob in enumerate(joined))
    assert abs(with_person - exact) < spread
