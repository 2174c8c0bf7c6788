from collections import Counter

import pytest
import torch

from dpsad.data.clusters import Clusters, find_clusters, majority_classes
from dpsad.data.records import ImageSet


def image_set(images, labels=None):
    labels = torch.zeros(len(images), dtype=torch.int64) if labels is None else labels
    ids = tuple(str(index) for index in range(len(images)))
    return ImageSet(images=images, labels=labels, ids=ids, class_names=("unlabelled",))


@pytest.fixture
def groups(rng):
    """90 images around three random ones, and which group each is of."""
    group = torch.arange(90) % 3
    centres = torch.rand(3, 2, 5, 6, generator=rng) * 1.6 - 0.8
    return image_set(centres[group] + 0.05 * torch.randn(90, 2, 5, 6, generator=rng)), group


def test_clusters_are_the_groups_there_are(groups):
    records, group = groups
    labelled = find_clusters(records, 3).label(records)
    assert labelled.class_names == ("cluster 0", "cluster 1", "cluster 2")
    assert len(set(zip(labelled.labels.tolist(), group.tolist(), strict=True))) == 3, "one cluster a group"
    assert len(set(labelled.labels.tolist())) == 3
    assert labelled.images is records.images
    assert labelled.ids == records.ids


def test_the_nearest_centre_is_nearest_in_pixels_too(groups):
    """With all components kept, distances in them are distances between images; checked one image at a time."""
    records, _ = groups
    clusters = find_clusters(records, 7)
    assert clusters.components.shape == (50, 60)
    whole = find_clusters(image_set(records.images[:, :1]), 7)
    centres = (whole.mean + whole.centres @ whole.components).reshape(7, 1, 5, 6)
    labels = whole.label(image_set(records.images[:, :1])).labels
    for image, label in zip(records.images[:, :1], labels, strict=True):
        assert label == (centres - image).square().sum((1, 2, 3)).argmin()


def test_a_label_is_a_function_of_the_image_and_the_kept_clusters(groups):
    records, _ = groups
    clusters = find_clusters(records, 5)
    again = Clusters(**clusters.state_dict())
    few = records.take(torch.tensor([40, 3, 77]))
    assert again.label(few).labels.tolist() == clusters.label(records).labels[[40, 3, 77]].tolist()


def test_true_labels_are_not_looked_at(groups):
    records, group = groups
    one, other = find_clusters(records, 4), find_clusters(image_set(records.images, group), 4)
    assert torch.equal(one.label(records).labels, other.label(records).labels)


def test_majority_agrees_with_counting(rng):
    clusters, classes = (torch.randint(0, top, (400,), generator=rng) for top in (6, 4))
    found = majority_classes(clusters, classes, 7, 4).tolist()
    for cluster in range(6):
        counts = Counter(classes[clusters == cluster].tolist())
        assert counts[found[cluster]] == max(counts.values())
    assert found[6] == 0, "a cluster without records"


def test_clusters_that_cannot_be_are_refused(groups):
    records, _ = groups
    with pytest.raises(ValueError, match=r"data\.pseudo_labels=91 is more than the 90 records"):
        find_clusters(records, 91)
    twins = image_set(records.images[torch.arange(90) % 4])
    with pytest.raises(ValueError, match=r"data\.pseudo_labels=6, but only 4 records differ"):
        find_clusters(twins, 6)
    with pytest.raises(ValueError, match=r"images with 60 pixel values, the records are of shape \[2, 5, 5\]"):
        find_clusters(records, 3).label(image_set(records.images[..., :5]))
