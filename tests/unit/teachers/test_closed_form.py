import math

import pytest
import torch

from dpsad.data.shards import split_into_shards
from dpsad.privacy.provenance import Provenance
from teachers.closed_form import ClosedFormTeachers


@pytest.fixture
def records(rng):
    """(40 images, their labels, which are in which of 6 shards)."""
    images = torch.rand(40, 2, 3, 4, generator=rng) * 2 - 1
    return images, torch.arange(40) % 3, split_into_shards(tuple(map(str, range(40))), 6, key=b"")


def posterior_mean(records, shard, x, sigma, label):
    """The formula, one record at a time, in float64; NaN without any record."""
    images, labels, shards = records
    own = [images[index].double() for index in shards.members[shard].tolist() if index >= 0 and labels[index] == label]
    exponents = [-((x.double() - record) ** 2).sum().item() / (2 * sigma**2) for record in own]
    weights = [math.exp(exponent - max(exponents)) for exponent in exponents]
    weighted = [weight * record for weight, record in zip(weights, own, strict=True)]
    return (sum(weighted) / sum(weights)).float() if own else torch.full(x.shape, math.nan)


def test_it_is_the_posterior_mean_over_the_shard_s_records_of_the_label(records, rng):
    """NaN where the shard has no record of the label."""
    x = torch.randn(4, 2, 3, 4, generator=rng)
    sigma, labels = torch.tensor([0.1, 0.5, 2.0, 50.0]), torch.tensor([0, 1, 2, 0])
    answers = ClosedFormTeachers(*records).denoise(x, sigma, labels)
    assert answers.shape == (6, 4, 2, 3, 4)
    assert answers.isnan().any(), "this test needs a shard that lacks a class"
    for shard in range(6):
        for query in range(4):
            expected = posterior_mean(records, shard, x[query], sigma[query].item(), labels[query])
            torch.testing.assert_close(answers[shard, query], expected, rtol=1e-4, atol=1e-4, equal_nan=True)


def test_nobody_knows_a_label_without_records(records, rng):
    answers = ClosedFormTeachers(*records).denoise(
        torch.randn(1, 2, 3, 4, generator=rng), torch.ones(1), torch.tensor([7])
    )
    assert answers.isnan().all()


def test_some_shards_can_be_asked(records, rng):
    teachers = ClosedFormTeachers(*records)
    query = torch.randn(5, 2, 3, 4, generator=rng), torch.full((5,), 0.7), torch.tensor([0, 1, 2, 1, 0])
    chosen = torch.tensor([4, 1])
    torch.testing.assert_close(
        teachers.denoise(*query, chosen), teachers.denoise(*query)[chosen], equal_nan=True, rtol=1e-4, atol=1e-5
    )


def test_it_is_private(records):
    assert ClosedFormTeachers(*records).provenance is Provenance.PRIVATE
