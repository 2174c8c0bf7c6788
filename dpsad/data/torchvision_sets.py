"""Data source: torchvision's data sets by name."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dpsad.data.arrays import content_ids
from dpsad.data.config import DataConfig
from dpsad.data.files import at_home
from dpsad.data.pixels import from_bytes
from dpsad.data.records import ImageSet


@dataclass(frozen=True)
class _Known:
    """A set in torchvision: its class, the raw files of each side under root, and what its class wants to be told."""

    class_name: str
    train_files: tuple[str, ...]
    test_files: tuple[str, ...]
    variant: str = ""
    num_classes: int = 10
    image_shape: tuple[int, int, int] = (1, 28, 28)


def _idx(folder: str, train: str, test: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    sides = [
        tuple(f"{folder}/raw/{side}-{part}-ubyte" for part in ("images-idx3", "labels-idx1")) for side in (train, test)
    ]
    return sides[0], sides[1]


_SETS = {
    "MNIST": _Known("MNIST", *_idx("MNIST", "train", "t10k")),
    "FashionMNIST": _Known("FashionMNIST", *_idx("FashionMNIST", "train", "t10k")),
    "KMNIST": _Known("KMNIST", *_idx("KMNIST", "train", "t10k")),
    "EMNIST-balanced": _Known(
        "EMNIST", *_idx("EMNIST", "emnist-balanced-train", "emnist-balanced-test"), "balanced", num_classes=47
    ),
    "EMNIST-digits": _Known("EMNIST", *_idx("EMNIST", "emnist-digits-train", "emnist-digits-test"), "digits"),
    "EMNIST-letters": _Known(
        "EMNIST", *_idx("EMNIST", "emnist-letters-train", "emnist-letters-test"), "letters", num_classes=26
    ),
    "CIFAR10": _Known(
        "CIFAR10",
        tuple(f"cifar-10-batches-py/data_batch_{part}" for part in range(1, 6)),
        ("cifar-10-batches-py/test_batch",),
        image_shape=(3, 32, 32),
    ),
    "CIFAR100": _Known(
        "CIFAR100", ("cifar-100-python/train",), ("cifar-100-python/test",), num_classes=100, image_shape=(3, 32, 32)
    ),
    "SVHN": _Known("SVHN", ("train_32x32.mat",), ("test_32x32.mat",), image_shape=(3, 32, 32)),
    "USPS": _Known("USPS", ("usps.bz2",), ("usps.t.bz2",), image_shape=(1, 16, 16)),
}


def read_torchvision(config: DataConfig, split: str) -> ImageSet:
    """Reads a torchvision set whole, from the arrays it holds rather than image by image.

    An id is a hash of the image, its label and how often both came before. EMNIST comes upright, not transposed as in
    its files.

    Raises:
        ValueError: a name not known here, no `data.root`, files that are missing, broken or cannot be fetched.
    """
    name = _nearest(config.name)
    if config.root is None:
        raise ValueError(f"data.root is not set; pass data.root=..., the folder that holds or shall hold {name}")
    found = _open(name, config, split)
    pixels = np.asarray(found.data)
    if name == "SVHN":
        pixels = pixels.transpose(0, 2, 3, 1)
    if name.startswith("EMNIST"):
        pixels = pixels.transpose(0, 2, 1)
    labels = torch.as_tensor(found.labels if name == "SVHN" else found.targets).long()
    class_names = getattr(found, "classes", [str(digit) for digit in range(10)])
    if name == "EMNIST-letters":  # torchvision counts them from 1, and calls 0 "N/A"
        labels, class_names = labels - 1, class_names[1:]
    images = from_bytes(pixels)
    return ImageSet(images=images, labels=labels, ids=content_ids(images, labels), class_names=tuple(class_names))


def known_form(name: str) -> tuple[int, tuple[int, int, int]]:
    """Number of classes and (chan, height, width) of a set, by its name alone.

    Raises:
        ValueError: a name not known here.
    """
    known = _SETS[_nearest(name)]
    return known.num_classes, known.image_shape


def _nearest(name: str) -> str:
    known = {_plain(title): title for title in _SETS} | {"emnist": "EMNIST-balanced"}
    if _plain(name) in known:
        return known[_plain(name)]
    if not name:
        raise ValueError(f"data.name is not set; data.source=torchvision knows {', '.join(_SETS)}")
    close = difflib.get_close_matches(_plain(name), known, n=1, cutoff=0.5)
    hint = f"did you mean '{known[close[0]]}'?" if close else f"known are {', '.join(_SETS)}"
    raise ValueError(f"data.name='{name}' is unknown to data.source=torchvision; {hint}")


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _open(name: str, config: DataConfig, split: str) -> Any:
    from torchvision import datasets  # slow to import, and only this source needs it

    known = _SETS[name]
    make, train = getattr(datasets, known.class_name), split == "train"
    root = at_home(config.root)
    try:
        if known.class_name == "SVHN":
            return make(root, split=split, download=config.download)
        if known.class_name == "EMNIST":
            return make(root, split=known.variant, train=train, download=config.download)
        return make(root, train=train, download=config.download)
    except Exception as error:  # a missing or broken file surfaces as anything from RuntimeError to UnpicklingError
        raise ValueError(_complaint(name, config, root, split, error)) from error


def _complaint(name: str, config: DataConfig, root: Path, split: str, error: Exception) -> str:
    known = _SETS[name]
    # the MNIST family refuses to open one side while a file of the other is missing
    files = (known.train_files, known.test_files) if split == "train" else (known.test_files, known.train_files)
    missing = [file for file in files[0] + files[1] if not (root / file).exists()]
    if missing and config.download:
        return f"cannot fetch {name} into data.root='{config.root}' ({error}); put {missing[0]} there by other means"
    if missing:
        return (
            f"no {name} under data.root='{config.root}' (looked for {root / missing[0]}); "
            "pass data.root=..., or data.download=true to fetch it"
        )
    return (
        f"cannot read {name} under data.root='{config.root}' ({error}); "
        f"remove {', '.join(files[0])} there and pass data.download=true to fetch anew"
    )
