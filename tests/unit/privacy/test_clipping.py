import math

import pytest
import torch

from dpsad.privacy.clipping import BlockRows, PartedRows, clip_rows, clip_scale, row_norms, steps_for, sum_clipped

STEPS = steps_for(1.0)
BROKEN = [math.nan, math.inf, -math.inf, 1e30]  # the last one's square overflows float32


def slow_clip(row, clip_norm):
    """One row, one number at a time, in double precision."""
    numbers = row.flatten().tolist()
    if not all(map(math.isfinite, numbers)):
        return torch.zeros(row.shape, dtype=torch.float64)
    norm = math.sqrt(math.fsum(number * number for number in numbers))
    return row.double() * (min(1.0, clip_norm / norm) if norm else 1.0)


def slow_sum(rows, clip_norm):
    return sum(slow_clip(row, clip_norm) for row in rows)


def summed(chunks, clip_norm, shape):
    """The sum in whole steps of clip_norm / STEPS."""
    total = torch.zeros(shape, dtype=torch.float64)
    for rows in chunks:
        sum_clipped(rows, clip_norm, total, STEPS)
    assert torch.equal(total, total.round())
    return total


@pytest.fixture
def rows(rng):
    """[40, 2, 3, 5] of norms from far below 1 to far above it."""
    scales = torch.logspace(-3, 3, 40)[:, None, None, None]
    return torch.randn(40, 2, 3, 5, generator=rng) * scales


@pytest.mark.parametrize("clip_norm", [0.01, 1.0, 50.0])
def test_clipped_rows_are_within_the_bound_in_their_own_direction(rows, clip_norm):
    clipped, norms = clip_rows(rows, clip_norm).flatten(1), rows.flatten(1).norm(dim=1)
    assert (norms > clip_norm).any()
    assert (norms < clip_norm).any()
    torch.testing.assert_close(clipped.norm(dim=1), norms.clamp(max=clip_norm))
    assert clipped.norm(dim=1).max() <= clip_norm * (1 + 1e-6)
    torch.testing.assert_close(clipped / clipped.norm(dim=1, keepdim=True), rows.flatten(1) / norms[:, None])


def test_rows_within_the_bound_are_unchanged_to_the_bit(rows):
    within = rows.flatten(1).norm(dim=1) < 1
    assert torch.equal(clip_rows(rows, 1.0)[within], rows[within])


@pytest.mark.parametrize("row", [torch.zeros(6), torch.full((6,), 1e-30)])
def test_zero_and_tiny_rows_stay_what_they_are(row):
    assert torch.equal(clip_rows(row[None], 1.0), row[None])


@pytest.mark.parametrize("value", BROKEN)
def test_a_row_that_is_not_finite_becomes_zero_and_its_neighbours_stay(rows, value):
    rows = rows[:3] / 1e4
    broken = rows.clone()
    broken[1, 0, 2, 3] = value
    expected = rows.clone()
    expected[1] = 0
    assert torch.equal(clip_rows(broken, 1.0), expected)


def test_scale_of_known_norms():
    norms = torch.tensor([0.0, 0.5, 2.0, 8.0, math.inf, math.nan])
    assert clip_scale(norms, 2.0).tolist() == [1, 1, 1, 0.25, 0, 0]


def as_dense(rows):
    return rows


def as_parts(rows):
    return PartedRows(list(rows.flatten(1).split([1, 20, 9], dim=1)))


@pytest.mark.parametrize("form", [as_dense, as_parts])
def test_sum_agrees_with_a_loop_over_numbers(rows, form):
    total = summed([form(rows), form(rows[:3])], 0.5, (2, 3, 5)) * (0.5 / STEPS)
    torch.testing.assert_close(total, slow_sum(rows, 0.5) + slow_sum(rows[:3], 0.5), rtol=1e-5, atol=1e-5)


def test_sum_of_block_rows_agrees_with_a_loop_over_rows_with_their_zeros(rows, rng):
    values, block = rows.flatten(1), torch.randint(0, 4, (40,), generator=rng)
    whole = torch.zeros(40, 4, 30)
    whole[torch.arange(40), block] = values
    total = summed([BlockRows(values, block)], 0.5, (4, 30)) * (0.5 / STEPS)
    torch.testing.assert_close(total, slow_sum(whole, 0.5), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("form", [as_dense, as_parts, lambda rows: BlockRows(rows.flatten(1), torch.zeros(40).long())])
def test_a_broken_row_adds_nothing_to_the_sum_and_takes_nothing_from_it(rows, form, value):
    zeroed, broken = rows.clone(), rows.clone()
    zeroed[5], broken[5, 1, 2, 3] = 0, value
    without, total = (summed([form(these)], 0.5, (1, 30)) for these in (zeroed, broken))
    assert without.norm() > STEPS
    assert torch.equal(without, total)


@pytest.mark.parametrize("form", [as_dense, as_parts, lambda rows: BlockRows(rows, torch.zeros(len(rows)).long())])
def test_bfloat16_rows_are_summed_as_exactly_as_others(form, rng):
    """A sum in bfloat16 would stop growing at 256."""
    total = summed([form(torch.full((5000, 30), 2.0, dtype=torch.bfloat16))], 30**0.5, (1, 30)) * (30**0.5 / STEPS)
    torch.testing.assert_close(total, torch.full((1, 30), 5000.0, dtype=torch.float64), rtol=1e-5, atol=0)
    rows = torch.randn(40, 30, generator=rng).bfloat16()
    total = summed([form(rows)], 1.5, (1, 30)) * (1.5 / STEPS)
    torch.testing.assert_close(total[0], slow_sum(rows, 1.5), rtol=1e-5, atol=1e-5)


def whole_norm(steps):
    """Of whole numbers, in exact arithmetic, rounded once."""
    return math.sqrt(sum(int(number) ** 2 for number in steps.flatten().tolist()))


@pytest.mark.parametrize("clip_norm", [1e-9, 0.3, 1.0, 7e3, 1e9])
def test_a_clipped_row_is_within_the_bound_exactly(rng, clip_norm):
    """Also where float32 would round a norm down: many small numbers beside a large one, all alike, near the bound."""
    for size in (1, 3, 785, 20_011):
        random, alike = torch.randn(size, generator=rng), torch.ones(size)
        one_large = torch.full((size,), 1e-4).index_fill_(0, torch.tensor([0]), 1.0)
        for row in (random, alike, one_large):
            for times in (0.99999, 1.0, 1.0000001, 1e3, 1e9):
                scaled = (row.double() / row.double().norm() * clip_norm * times).float()
                steps = summed([scaled[None]], clip_norm, (size,))
                assert STEPS * (1 - 3e-5) < whole_norm(steps) <= STEPS


def test_five_million_numbers_are_within_the_bound_exactly(rng):
    row = torch.rand(1, 5_000_000, generator=rng)
    assert STEPS * 0.999 < whole_norm(summed([row], 0.5, (5_000_000,))) <= STEPS
    norm = row.double().square().sum().sqrt().item()
    assert row_norms([row]).item() == pytest.approx(norm, rel=1e-6)


def as_blocks(rows):
    return BlockRows(rows.flatten(1), torch.zeros(len(rows)).long())


def as_units(rows):
    """Each row in three entries, two of them for one block; entries of all rows interleaved."""
    thirds, unit = torch.cat([rows.flatten(1) / 3] * 3), torch.arange(len(rows)).repeat(3)
    return BlockRows(thirds, torch.tensor([0, 0, 1]).repeat_interleave(len(rows)), unit)


FORMS = {"dense": (as_dense, (2, 3, 5)), "parts": (as_parts, (30,)), "blocks": (as_blocks, (1, 30)),
         "units": (as_units, (2, 30))}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_one_row_more_adds_itself_and_changes_nothing_else_to_the_bit(rows, name, rng):
    """Whatever the order, and however the rows are divided into chunks."""
    form, shape = FORMS[name]
    rows = torch.cat([rows] * 20)[torch.randperm(800, generator=rng)]
    total = summed([form(rows)], 0.5, shape)
    shuffled = rows[torch.randperm(800, generator=rng)]
    assert torch.equal(summed([form(chunk) for chunk in shuffled.split(77)], 0.5, shape), total)
    for index in (0, 1, 400, 799):
        others = torch.cat([rows[:index], rows[index + 1 :]])
        own = summed([form(rows[[index]])], 0.5, shape)
        assert torch.equal(summed([form(others)], 0.5, shape) + own, total)
        assert whole_norm(own) <= STEPS


def test_small_rows_beside_a_large_sum_count_as_they_are():
    """8,191 ones and then halves of a unit in the last place: float32 adds the halves of one order, and not of the
    other, so that one row more moved such a sum by twice its norm."""
    half = 2.0**-12
    ones, halves = torch.ones(8191, 1), torch.full((8192, 1), half)
    total = summed([ones, halves], 1.0, (1,))
    assert total.item() / STEPS == pytest.approx(8191 + 8192 * half, rel=1e-5)
    moved = total - summed([ones[1:], halves], 1.0, (1,))
    assert 0.99999 * STEPS < moved.item() <= STEPS


def test_the_grid_is_public_and_leaves_noise_no_more_than_2_to_the_28_steps():
    assert [steps_for(noise) for noise in (0.0, 1.0, 16.0, 17.0, 1e4)] == [2**24, 2**24, 2**24, 2**23, 2**14]
    assert all(noise * steps_for(noise) <= 2**28 for noise in (0.3, 5.0, 16.1, 100.0, 1e6, 2.0**28))


@pytest.mark.parametrize("dim", [10, 100, 784])
def test_a_norm_does_not_know_other_rows_however_rows_lie_in_memory(dim, rng):
    rows = torch.randn(dim, 40, generator=rng).T
    norms = row_norms([rows])
    assert all(torch.equal(row_norms([rows[:num]]), norms[:num]) for num in range(1, 40))
    assert torch.equal(row_norms([rows.contiguous()]), norms)
