"""Pseudo-labels: groups of alike images, where records have no labels of their own."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dpsad.data.records import ImageSet

NUM_FEATURES = 50
STARTS = 4  # k-means keeps the best of so many


@dataclass(frozen=True, eq=False)
class Clusters:
    """Centres of groups, in the leading principal components of the pixels. Private: they are averages of records.

    Attributes:
        mean: [pixels] of all records.
        components: [features, pixels] orthonormal.
        centres: [clusters, features].
    """

    mean: Tensor
    components: Tensor
    centres: Tensor

    def label(self, records: ImageSet) -> ImageSet:
        """The same records under the labels of their nearest centres; classes are named "cluster 0", ...

        Raises:
            ValueError: the records are of another size than those that the clusters were found among.
        """
        if records.images[0].numel() != len(self.mean):
            raise ValueError(
                f"the teacher's clusters are of images with {len(self.mean)} pixel values, the records are of shape "
                f"{list(records.image_shape)}; teach on such data"
            )
        features = (records.images.flatten(1) - self.mean) @ self.components.T
        return replace(
            records,
            labels=torch.cdist(features, self.centres).argmin(dim=1),
            clustered=True,
            class_names=tuple(f"cluster {index}" for index in range(len(self.centres))),
        )

    def state_dict(self) -> dict:
        return {"mean": self.mean, "components": self.components, "centres": self.centres}


def find_clusters(records: ImageSet, num_clusters: int) -> Clusters:
    """Finds groups by k-means on the leading 50 principal components of the pixels; true labels are not looked at.

    Raises:
        ValueError: there are fewer different records than clusters.

    Formal guarantee: none. Every centre depends on all records.

    Source: scikit-learn's PCA and KMeans (Lloyd 1982, Arthur and Vassilvitskii 2007 for the start).
    """
    from sklearn.cluster import KMeans  # slow to import, and only pseudo-labels need it
    from sklearn.decomposition import PCA

    if num_clusters > len(records):
        raise ValueError(
            f"data.pseudo_labels={num_clusters} is more than the {len(records)} records there are; lower it"
        )
    pixels = records.images.flatten(1).numpy()
    # counted before any arithmetic, whose rounding may tell twins apart
    num_different = len({image.tobytes() for image in pixels})
    if num_different < num_clusters:
        raise ValueError(f"data.pseudo_labels={num_clusters}, but only {num_different} records differ; lower it")
    projection = PCA(min(NUM_FEATURES, *pixels.shape), random_state=0).fit(pixels)
    found = KMeans(num_clusters, n_init=STARTS, random_state=0).fit(projection.transform(pixels))
    return Clusters(
        torch.from_numpy(projection.mean_).float(),
        torch.from_numpy(projection.components_).float(),
        torch.from_numpy(found.cluster_centers_).float(),
    )


def majority_classes(clusters: Tensor, classes: Tensor, num_clusters: int, num_classes: int) -> Tensor:
    """The class that most records of each cluster have.

    Args:
        clusters: [num] cluster of each record.
        classes: [num] its true class.

    Returns:
        [num_clusters] classes; the lowest of equals, and 0 for a cluster without records.
    """
    counts = torch.zeros(num_clusters, num_classes, dtype=torch.int64)
    counts.index_put_((clusters, classes), torch.ones_like(classes), accumulate=True)
    return counts.argmax(dim=1)
