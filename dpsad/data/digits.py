"""Data source: scikit-learn's embedded digits."""

from __future__ import annotations

import torch

from dpsad.data.config import DataConfig
from dpsad.data.pixels import channels_first
from dpsad.data.records import ImageSet
from dpsad.data.splits import rank_in_class


def read_digits(config: DataConfig, split: str) -> ImageSet:
    """Reads scikit-learn's embedded digits: 1,797 images of 8x8 pixels, every fifth of a class on the test side.

    The file comes with scikit-learn and is the same for everybody. So a record's number in it is its name, and its side
    is a public fact of that name: no record can come or go that would give others another number.
    """
    from sklearn.datasets import load_digits  # slow to import, and only this source needs it

    found = load_digits()
    labels = torch.from_numpy(found.target).long()
    everything = ImageSet(
        images=channels_first(found.images).div_(8).sub_(1),
        labels=labels,
        ids=tuple(f"digits-{index:04d}" for index in range(len(labels))),
        class_names=tuple(str(digit) for digit in range(10)),
    )
    test = rank_in_class(labels) % 5 == 4
    return everything.take(test if split == "test" else ~test)
