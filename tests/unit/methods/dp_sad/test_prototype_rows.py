"""Shard rows: what they are, and how far one record reaches."""

import math

import pytest
import torch

from dpsad.data.config import DataConfig
from dpsad.data.shards import shard_of, split_into_shards
from dpsad.data.sources import load_images
from dpsad.diffusion.denoiser import Denoiser
from dpsad.methods.dp_sad.prototype_rows import record_rows, shard_rows, teacher_rows
from dpsad.methods.dp_sad.queries import Proposal
from dpsad.networks.stacked import Stacked
from dpsad.privacy.clipping import BlockRows
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from teachers.closed_form import ClosedFormTeachers
from teachers.shard_denoisers import ShardDenoisers

K, BOUND, COUNT_SHARE, MAX_NORM = 12, 4.0, 0.1, 0.7


@pytest.fixture(scope="module")
def records():
    return load_images(DataConfig(), "train").take(torch.arange(150))


@pytest.fixture
def proposal(rng):
    centres = torch.rand(10, 2, 1, 8, 8, generator=rng) - 0.5
    outputs = centres.flatten(0, 1)
    inputs = outputs + 0.8 * torch.randn(outputs.shape, generator=rng)
    return Proposal(inputs, torch.full((20,), 0.8), torch.arange(10).repeat_interleave(2), outputs)


def rows_of_shards(records, proposal):
    """kind -> dense rows [K, images, pixels + 1], for the shards of these records."""
    shards, everyone = split_into_shards(records.ids, K, key=b"test"), torch.arange(K)
    shape = len(proposal.labels), proposal.outputs[0].numel() + 1
    summed = torch.zeros(K, *shape)
    for chunk in shard_rows(records.images, records.labels, shards, everyone, proposal, BOUND, COUNT_SHARE):
        summed.index_put_((chunk.unit, chunk.block), chunk.values, accumulate=True)
    by_teachers = {"closed form": ClosedFormTeachers(records.images, records.labels, shards)}
    return {"records": summed} | {
        kind: torch.cat(list(teacher_rows(teachers, None, everyone, proposal, BOUND, COUNT_SHARE)))
        for kind, teachers in by_teachers.items()
    }


def test_a_shard_s_row_is_the_sum_of_its_records_rows(records, proposal):
    rows = rows_of_shards(records, proposal)["records"]
    by_class = [(records.labels == label).nonzero().flatten() for label in range(10)]
    expected, position = torch.zeros_like(rows), 0
    order = torch.cat(by_class)
    for chunk in record_rows(records.images, by_class, proposal, BOUND, COUNT_SHARE):
        for values, block in zip(chunk.values, chunk.block, strict=True):
            shard = shard_of(records.ids[order[position]], K, key=b"test")
            expected[shard, block] += values
            position += 1
    torch.testing.assert_close(rows, expected, rtol=1e-4, atol=1e-5)


def test_one_record_more_changes_one_shard_s_row(records, proposal):
    """With real records, shards and teachers; whoever answers for a shard."""
    for index in (0, 7, 149):
        without = records.take(torch.arange(150) != index)
        before = rows_of_shards(without, proposal)
        after = rows_of_shards(records, proposal)
        own = shard_of(records.ids[index], K, key=b"test")
        for kind in after:
            distance = (after[kind] - before[kind]).flatten(1).norm(dim=1)
            others = distance[torch.arange(K) != own]
            assert distance[own] > 1e-2, kind
            assert others.max() < 1e-4, kind


def test_one_record_moves_the_sum_by_at_most_twice_the_bound(records, proposal):
    plan = ReleasePlan(purpose="test", unit=Unit.SHARD, clip_norm=MAX_NORM, noise_multiplier=1.0, num_releases=1)

    def released(rows):
        sanitizer = Sanitizer(plan, Ledger(math.inf, 1e-5), PrivateRandomness(seed=0))
        return sanitizer.release([rows], tuple(rows.shape[1:]))

    for index in (0, 7):
        before = rows_of_shards(records.take(torch.arange(150) != index), proposal)
        after = rows_of_shards(records, proposal)
        for kind in after:
            moved = (released(after[kind]) - released(before[kind])).norm().item()
            assert 1e-3 < moved <= plan.sensitivity() * (1 + 1e-5) == 2 * MAX_NORM * (1 + 1e-5), kind


def test_the_bound_is_reached_by_opposite_rows():
    """Twice the bound is no luxury: a shard whose row turns round moves the sum that far."""
    plan = ReleasePlan(purpose="test", unit=Unit.SHARD, clip_norm=MAX_NORM, noise_multiplier=1.0, num_releases=1)
    row = torch.full((1, 5, 3), 9.0)
    first, second = (
        Sanitizer(plan, Ledger(math.inf, 1e-5), PrivateRandomness(seed=0)).release([sign * row], (5, 3))
        for sign in (1, -1)
    )
    assert (first - second).norm().item() == pytest.approx(2 * MAX_NORM, rel=1e-5)


def test_block_rows_of_one_unit_are_clipped_together(rng):
    """A shard's blocks are one row: the joint norm counts, and entries for one block add up first."""
    values = torch.randn(7, 3, generator=rng)
    block, unit = torch.tensor([0, 1, 1, 2, 0, 2, 2]), torch.tensor([0, 0, 0, 1, 1, 1, 3])
    dense = torch.zeros(4, 3, 3).index_put_((unit, block), values, accumulate=True)
    plan = ReleasePlan(purpose="test", unit=Unit.SHARD, clip_norm=MAX_NORM, noise_multiplier=1.0, num_releases=1)

    def released(rows):
        return Sanitizer(plan, Ledger(math.inf, 1e-5), PrivateRandomness(seed=0)).release([rows], (3, 3))

    torch.testing.assert_close(released(BlockRows(values, block, unit)), released(dense))
    values[3] = math.nan
    dense[1] = 0
    torch.testing.assert_close(released(BlockRows(values, block, unit)), released(dense))


def test_teachers_pull_towards_their_answers_and_say_whether_they_have_any(records, proposal):
    shards = split_into_shards(records.ids, K, key=b"test")
    teachers = ClosedFormTeachers(records.images, records.labels, shards)
    (rows,) = teacher_rows(teachers, None, torch.tensor([3, 5]), proposal, 1e3, COUNT_SHARE)
    answers = teachers.denoise(proposal.inputs, proposal.sigma, proposal.labels, torch.tensor([3, 5])).flatten(2)
    answered = answers.isfinite().all(2)
    assert 0 < answered.sum() < answered.numel()
    expected = (answers - proposal.outputs.flatten(1)).nan_to_num(0) * math.sqrt(1 - COUNT_SHARE) / 1e3
    torch.testing.assert_close(rows[..., :-1], expected)
    torch.testing.assert_close(rows[..., -1], answered * math.sqrt(COUNT_SHARE))
    (clipped,) = teacher_rows(teachers, None, torch.tensor([3, 5]), proposal, 0.01, COUNT_SHARE)
    torch.testing.assert_close(clipped.norm(dim=2), answered.float())


def test_trained_teachers_answer_each_from_its_own_network(make_denoiser, perturbed, rng):
    networks = [perturbed(make_denoiser().network, 0.2 * index) for index in range(3)]
    teachers = ShardDenoisers(Stacked(networks))
    x, sigma, labels = torch.randn(4, 1, 6, 6, generator=rng), torch.full((4,), 0.4), torch.arange(4) % 3
    answers = teachers.denoise(x, sigma, labels)
    for network, answer in zip(networks, answers, strict=True):
        torch.testing.assert_close(answer, Denoiser(network)(x, sigma, labels))
    some = teachers.denoise(x, sigma, labels, torch.tensor([2, 1]))
    torch.testing.assert_close(some, answers[[2, 1]])


def test_a_round_that_no_shard_joins_has_no_rows(records, proposal):
    """Poisson sampling may draw nobody; what is released then is noise."""
    shards, nobody = split_into_shards(records.ids, K, key=b"test"), torch.empty(0, dtype=torch.int64)
    teachers = ClosedFormTeachers(records.images, records.labels, shards)
    assert not list(teacher_rows(teachers, None, nobody, proposal, 1.0, COUNT_SHARE))
    assert not list(shard_rows(records.images, records.labels, shards, nobody, proposal, 1.0, COUNT_SHARE))
