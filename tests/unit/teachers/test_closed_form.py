import math

import pytest
import torch

from dpsad.data.shards import split_into_shards
from dpsad.privacy.provenance import Provenance
from teachers.closed_form import ClosedFormTeachers


@pytest.fixture
def teachers(generator):
    images = torch.rand(40, 2, 3, 4, generator=generator) * 2 - 1
    labels = torch.arange(40) % 3
    shards = split_into_shards(tuple(map(str, range(40))), 6, key=b"")
    return ClosedFormTeachers(images, labels, shards)


def posterior_mean(teachers, shard, x, sigma, label):
    """The formula, one record at a time, in float64."""
    members = [index for index in teachers.shards.members[shard].tolist() if index >= 0]
    records = [teachers.flat[index].double() for index in members if teachers.labels[index] == label]
    exponents = [-((x.double().flatten() - record) ** 2).sum().item() / (2 * sigma**2) for record in records]
    weights = [math.exp(exponent - max(exponents)) for exponent in exponents]
    mean = sum(weight * record for weight, record in zip(weights, records, strict=True)) / sum(weights)
    return mean.reshape(x.shape).float()


def test_it_is_the_posterior_mean_over_the_shard_s_records_of_the_label(teachers, generator):
    x = torch.randn(4, 2, 3, 4, generator=generator)
    sigma, labels = torch.tensor([0.1, 0.5, 2.0, 50.0]), torch.tensor([0, 1, 2, 0])
    answers = teachers.denoise(x, sigma, labels)
    assert answers.shape == (6, 4, 2, 3, 4)
    for shard in range(6):
        for query in range(4):
            if answers[shard, query].isnan().any():
                continue
            expected = posterior_mean(teachers, shard, x[query], sigma[query].item(), labels[query])
            torch.testing.assert_close(answers[shard, query], expected, rtol=1e-4, atol=1e-4)


def test_a_shard_without_records_of_the_label_has_no_answer(teachers, generator):
    x = torch.randn(3, 2, 3, 4, generator=generator)
    answers = teachers.denoise(x, torch.full((3,), 1.0), torch.arange(3))
    for shard in range(6):
        members = teachers.shards.members[shard]
        known = set(teachers.labels[members[members >= 0]].tolist())
        assert [label in known for label in range(3)] == answers[shard].flatten(1).isfinite().all(1).tolist()
    assert answers.isnan().any(), "this test needs a shard that lacks a class"


def test_some_shards_can_be_asked(teachers, generator):
    query = torch.randn(5, 2, 3, 4, generator=generator), torch.full((5,), 0.7), torch.tensor([0, 1, 2, 1, 0])
    chosen = torch.tensor([4, 1])
    torch.testing.assert_close(
        teachers.denoise(*query, chosen), teachers.denoise(*query)[chosen], equal_nan=True, rtol=1e-4, atol=1e-5
    )


def test_it_is_private(teachers):
    assert teachers.provenance is Provenance.PRIVATE
