"""Samples that are split as data sets are, read back from where they were written."""

import numpy as np
import pytest
import torch

from dpsad.data.config import DataConfig
from dpsad.data.sources import load_images
from students.sample_files import check_split, class_folders, write_samples
from students.sampling import even_labels, to_bytes

NAMES = ("cat", "dog", "owl")


def some_images(num, chan=1):
    return torch.rand(num, chan, 4, 4, generator=torch.Generator().manual_seed(0)) * 2 - 1


def read_back(source, path):
    """(images as bytes, class name) of each side, in no order."""
    sides = {}
    for split in ("train", "test"):
        read = load_images(DataConfig(source=source, path=str(path)), split)
        pixels = to_bytes(read.images)
        names = (read.class_names[label] for label in read.labels)
        sides[split] = sorted((image.tobytes(), name) for image, name in zip(pixels, names, strict=True))
    return sides


@pytest.mark.parametrize("chan", [1, 3])
@pytest.mark.parametrize(("source", "name", "called"), [("npz", "s.NPZ", "012"), ("folder", "s", NAMES)])
def test_what_is_split_comes_back_whole_with_its_classes(tmp_path, source, name, called, chan):
    images, labels = some_images(31, chan), even_labels(31, 3)
    write_samples(images, labels, tmp_path / name, test_share=0.2, class_names=NAMES)
    sides = read_back(source, tmp_path / name)
    written = [(image.tobytes(), called[label]) for image, label in zip(to_bytes(images), labels.tolist(), strict=True)]
    assert sorted(sides["train"] + sides["test"]) == sorted(written)
    assert [sum(name == each for _, name in sides["test"]) for each in called] == [2, 2, 2]


def test_an_archive_has_the_keys_shapes_and_types_of_medmnist(tmp_path):
    write_samples(some_images(10), even_labels(10, 2), tmp_path / "s.npz", test_share=0.3)
    with np.load(tmp_path / "s.npz") as file:
        shapes = {key: (file[key].shape, file[key].dtype.kind) for key in file}
    assert shapes == {
        "train_images": ((6, 4, 4), "u"), "train_labels": ((6, 1), "i"),
        "test_images": ((4, 4, 4), "u"), "test_labels": ((4, 1), "i"),
    }  # fmt: skip


def test_without_labels_no_class_is_made_up(tmp_path):
    images, labels = some_images(10), torch.full((10,), -1)
    write_samples(images, labels, tmp_path / "s.npz", test_share=0.3)
    write_samples(images, labels, tmp_path / "s", test_share=0.3, class_names=NAMES)
    with np.load(tmp_path / "s.npz") as file:
        assert sorted(file) == ["test_images", "train_images"]
    assert [path.relative_to(tmp_path / "s").as_posix() for path in sorted((tmp_path / "s").glob("*/*"))] == [
        "test/unlabelled", "train/unlabelled",
    ]  # fmt: skip


@pytest.mark.parametrize("share", [1e-9, 0.5, 1 - 1e-9])
def test_each_side_has_every_class_whatever_the_share(tmp_path, share):
    write_samples(some_images(4), torch.tensor([0, 1, 1, 0]), tmp_path / "s", test_share=share)
    assert len({path.parent for path in (tmp_path / "s").rglob("*.png")}) == 4


@pytest.mark.parametrize("share", [0.0, 1.0, -1.0, float("nan")])
def test_a_share_that_splits_nothing_is_refused(share):
    with pytest.raises(ValueError, match="--test-share"):
        check_split(even_labels(10, 2), share)


def test_one_image_of_a_class_cannot_be_split(tmp_path):
    with pytest.raises(ValueError, match="raise --num"):
        write_samples(some_images(3), even_labels(3, 2), tmp_path / "s", test_share=0.5)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "names",
    [
        ("a/b", "c"), ("..", "c"), (".hidden", "c"), ("", "c"), ("A", "a"), ("train", "c"), ("test-tube", "c"),
        ("a\nb", "c"), ("my val 2", "c"), ("x" * 101, "c"), ("end.", "c"), ("a:b", "c"),
    ],
)  # fmt: skip
def test_a_name_that_is_no_folder_or_reads_as_a_split_gives_way_to_numbers(names):
    assert class_folders(names) == ["0", "1"]
    assert class_folders([*names, *map(str, range(9))])[:3] == ["00", "01", "02"], "the alphabet keeps their order"


def test_names_stay_where_they_can():
    assert class_folders(["T-shirt, top", "Küche", "contest", "10"]) == ["T-shirt, top", "Küche", "contest", "10"]
