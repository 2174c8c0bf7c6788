import math

import pytest
import torch

from dpsad.privacy.clipping import BlockRows, PartedRows, clip_rows, clip_scale, sum_clipped

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
    total = torch.full((2, 3, 5), 7.0)
    sum_clipped(form(rows), 0.5, total)
    torch.testing.assert_close(total.double(), slow_sum(rows, 0.5) + 7, rtol=1e-5, atol=1e-5)


def test_sum_of_block_rows_agrees_with_a_loop_over_rows_with_their_zeros(rows, rng):
    values, block = rows.flatten(1), torch.randint(0, 4, (40,), generator=rng)
    whole = torch.zeros(40, 4, 30)
    whole[torch.arange(40), block] = values
    total = torch.full((4, 30), 7.0)
    sum_clipped(BlockRows(values, block), 0.5, total)
    torch.testing.assert_close(total.double(), slow_sum(whole, 0.5) + 7, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("value", BROKEN)
@pytest.mark.parametrize("form", [as_dense, as_parts, lambda rows: BlockRows(rows.flatten(1), torch.zeros(40).long())])
def test_a_broken_row_adds_nothing_to_the_sum_and_takes_nothing_from_it(rows, form, value):
    zeroed, broken = rows.clone(), rows.clone()
    zeroed[5], broken[5, 1, 2, 3] = 0, value
    totals = torch.zeros(2, 1, 30)
    for total, these in zip(totals, (zeroed, broken), strict=True):
        sum_clipped(form(these), 0.5, total)
    assert totals[0].norm() > 1
    assert torch.equal(*totals)


@pytest.mark.parametrize("form", [as_dense, as_parts, lambda rows: BlockRows(rows, torch.zeros(len(rows)).long())])
def test_bfloat16_rows_are_summed_in_float32(form, rng):
    """A sum in bfloat16 would stop growing at 256."""
    total = torch.zeros(1, 30)
    sum_clipped(form(torch.full((5000, 30), 2.0, dtype=torch.bfloat16)), math.sqrt(30), total)
    torch.testing.assert_close(total, torch.full((1, 30), 5000.0))
    rows = torch.randn(40, 30, generator=rng).bfloat16()
    sum_clipped(form(rows), 1.5, total.zero_())
    torch.testing.assert_close(total[0].double(), slow_sum(rows, 1.5), rtol=1e-5, atol=1e-5)
