import pytest
import torch

from dpsad.evaluation import neighbours
from dpsad.evaluation.neighbours import distances, nearest, neighbour_radii
from dpsad.evaluation.support import support_overlap


def points(num, seed, *, dim=3, mean=0.0):
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed)) + mean


@pytest.fixture(params=[2**24, 100], ids=["one chunk", "many chunks"], autouse=True)
def max_distances(request, monkeypatch):
    monkeypatch.setattr(neighbours, "MAX_DISTANCES", request.param)
    return request.param


def slow(a, b):
    return [[float((x - y).norm()) for y in b] for x in a]


def test_no_more_distances_than_allowed_are_held_at_once(max_distances):
    queries, anchors = points(70, 0), points(40, 1)
    chunks = list(distances(queries, anchors))
    assert max(chunk.numel() for chunk in chunks) <= max_distances
    torch.testing.assert_close(torch.cat(chunks), torch.tensor(slow(queries, anchors)), atol=1e-5, rtol=1e-5)


def test_nearest_is_the_least_of_all():
    queries, anchors = points(70, 0), points(40, 1)
    found, index = nearest(queries, anchors)
    table = slow(queries, anchors)
    assert index.tolist() == [row.index(min(row)) for row in table]
    assert found.tolist() == pytest.approx([min(row) for row in table], abs=1e-6)


def test_a_copy_is_at_no_distance_however_far_from_the_origin():
    anchors = points(50, 0, dim=500, mean=30)
    found, index = nearest(anchors.flip(0), anchors)
    assert index.tolist() == list(range(49, -1, -1))
    assert found.max() == 0


def test_an_anchor_does_not_count_as_its_own_neighbour():
    anchors = points(60, 0)
    own = torch.randperm(60, generator=torch.Generator().manual_seed(0))[:40]
    found, index = nearest(anchors[own], anchors, own=own)
    table = slow(anchors[own], anchors)
    others = [[(row[j], j) for j in range(60) if j != me] for row, me in zip(table, own.tolist(), strict=True)]
    assert index.tolist() == [min(row)[1] for row in others]
    assert found.tolist() == pytest.approx([min(row)[0] for row in others], abs=1e-6)


def test_radii_count_the_others():
    sample = points(40, 2)
    table = [sorted(row)[1:] for row in slow(sample, sample)]
    for rank, radii in zip((1, 3), neighbour_radii(sample, (1, 3)), strict=True):
        assert radii.tolist() == pytest.approx([row[rank - 1] for row in table], abs=1e-5)


def slow_overlap(real, fake):
    """The definitions of the sources, pair by pair."""
    real_real, fake_fake, real_fake = slow(real, real), slow(fake, fake), slow(real, fake)
    real_3, real_5 = ([sorted(row)[k] for row in real_real] for k in (3, 5))
    fake_3 = [sorted(row)[3] for row in fake_fake]
    rows, columns = range(len(real)), range(len(fake))
    return {
        "precision": sum(any(real_fake[i][j] <= real_3[i] for i in rows) for j in columns) / len(fake),
        "recall": sum(any(real_fake[i][j] <= fake_3[j] for j in columns) for i in rows) / len(real),
        "density": sum(real_fake[i][j] <= real_5[i] for i in rows for j in columns) / (5 * len(fake)),
        "coverage": sum(any(real_fake[i][j] <= real_5[i] for j in columns) for i in rows) / len(real),
    }


@pytest.mark.parametrize("mean", [0.0, 0.7, 2.0])
def test_overlap_is_that_of_the_definitions(mean):
    real, fake = points(60, 3), 0.8 * points(45, 4, mean=mean)
    assert vars(support_overlap(real, fake)) == pytest.approx(slow_overlap(real, fake))


def test_equal_sets_cover_each_other_and_distant_ones_do_not():
    real = points(60, 5)
    same, apart = support_overlap(real, real.flip(0)), support_overlap(real, real + 100)
    assert (same.precision, same.recall, same.coverage) == (1, 1, 1)
    assert same.density >= 1
    assert set(vars(apart).values()) == {0.0}


def test_a_lost_mode_costs_recall_and_coverage_not_precision():
    modes = torch.cat([points(50, 6), points(50, 7, mean=50)])
    overlap = support_overlap(modes, points(100, 8))
    assert overlap.precision > 0.8
    assert overlap.recall <= 0.5
    assert overlap.coverage <= 0.5
    gained = support_overlap(points(100, 8), modes)
    assert gained.precision <= 0.5
    assert gained.recall > 0.8


def test_too_few_images_have_no_neighbours():
    with pytest.raises(ValueError, match="5 real and 9 fake images are too few"):
        support_overlap(points(5, 0), points(9, 1))
