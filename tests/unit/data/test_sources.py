import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from dpsad.data.arrays import content_ids
from dpsad.data.config import DataConfig
from dpsad.data.records import CLASSES_OF_DATA, RANGE_OF_DATA
from dpsad.data.sources import load_images

RANDOM = np.random.default_rng(0)


def load(split="train", **settings):
    return load_images(DataConfig(**settings), split)


def refuses(match, split="train", **settings):
    with pytest.raises(ValueError, match=match):
        load(split, **settings)


def random_bytes(*shape):
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path)


def as_bytes(images):
    return ((images + 1) * 127.5).round().to(torch.uint8)


# digits, and what holds for every source


def test_digits_split_is_fixed_disjoint_and_even():
    train, test = load("train"), load("test")
    assert (len(train), len(test), train.image_shape, train.num_classes) == (1442, 355, (1, 8, 8), 10)
    assert not set(train.ids) & set(test.ids)
    assert (test.labels.bincount() - train.labels.bincount() / 4).abs().max() <= 1
    assert (train.images.min(), train.images.max()) == (-1, 1)
    assert train.images.dtype == torch.float32
    assert test.ids[:3] == ("digits-0033", "digits-0036", "digits-0037")


def test_limit_size_and_grey_shape_the_records():
    few = load(limit=25, image_size=13)
    assert (len(few), few.image_shape) == (25, (1, 13, 13))
    assert few.labels.bincount().tolist() == [3] * 5 + [2] * 5
    whole = load()
    places = [whole.ids.index(name) for name in few.ids]
    assert few.labels.tolist() == whole.labels[places].tolist()
    assert torch.allclose(few.images.mean((1, 2, 3)), whole.images[places].mean((1, 2, 3)), atol=0.1)


def test_wrong_settings_are_named_with_a_mend():
    refuses("data.source='foldr' is unknown; did you mean 'folder'", source="foldr")
    refuses("split 'val'", split="val")
    refuses("data.limit=4 leaves classes", limit=4)
    refuses("data.num_classes=7 but it has 10", num_classes=7)
    for key in ("image_size", "num_classes", "limit", "pseudo_labels"):
        with pytest.raises(ValueError, match=rf"data\.{key}=-1 must be in"):
            DataConfig(**{key: -1})


def test_config_works_as_a_structured_one():
    merged = OmegaConf.merge(OmegaConf.structured(DataConfig), OmegaConf.from_dotlist(["root=somewhere", "limit=5"]))
    assert OmegaConf.to_object(merged) == DataConfig(root="somewhere", limit=5)


# torchvision


@pytest.fixture
def mnist_root(tmp_path):
    """The raw layout of MNIST, with 20 images a side; the i-th test image is filled with 10 i."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    filled = np.arange(0, 200, 10, dtype=np.uint8)[:, None, None] * np.ones((1, 28, 28), dtype=np.uint8)
    for side, images in (("train", random_bytes(20, 28, 28)), ("t10k", filled)):
        labels = np.arange(20, dtype=np.uint8) % 10
        header = np.array([0x803, 20, 28, 28], dtype=">i4").tobytes()
        (raw / f"{side}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        (raw / f"{side}-labels-idx1-ubyte").write_bytes(np.array([0x801, 20], dtype=">i4").tobytes() + labels.tobytes())
    return tmp_path


@pytest.mark.parametrize("name", ["MNIST", "mnist"])
def test_torchvision_arrays_arrive_whole(mnist_root, name):
    test = load("test", source="torchvision", name=name, root=str(mnist_root))
    assert test.image_shape == (1, 28, 28)
    assert as_bytes(test.images)[:, 0, 5, 7].tolist() == list(range(0, 200, 10))
    assert test.labels.tolist() == [index % 10 for index in range(20)]
    assert test.ids == content_ids(test.images, test.labels)
    train = load("train", source="torchvision", name=name, root=str(mnist_root))
    assert train.images.std() > 0.3


@pytest.mark.parametrize(("variant", "num", "first"), [("digits", 10, 0), ("letters", 26, 1)])
def test_emnist_comes_upright_with_labels_from_0(tmp_path, variant, num, first):
    raw = tmp_path / "EMNIST" / "raw"
    raw.mkdir(parents=True)
    images = random_bytes(num, 28, 28)
    header = np.array([0x803, num, 28, 28], dtype=">i4").tobytes()
    (raw / f"emnist-{variant}-train-images-idx3-ubyte").write_bytes(header + images.tobytes())
    header = np.array([0x801, num], dtype=">i4").tobytes()
    (raw / f"emnist-{variant}-train-labels-idx1-ubyte").write_bytes(header + bytes(range(first, first + num)))
    found = load(source="torchvision", name=f"emnist-{variant}", root=str(tmp_path))
    assert np.array_equal(as_bytes(found.images)[:, 0].numpy(), images.transpose(0, 2, 1))
    assert (found.num_classes, found.labels.tolist()) == (num, list(range(num)))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("fashion-mnist", "FashionMNIST/raw/train-images-idx3-ubyte"),
        ("EMNIST", "EMNIST/raw/emnist-balanced-train-images-idx3-ubyte"),
        ("cifar-10", "cifar-10-batches-py/data_batch_1"),
        ("CIFAR100", "cifar-100-python/train"),
        ("svhn", "train_32x32.mat"),
        ("USPS", "usps.bz2"),
    ],
)
def test_a_missing_set_says_where_it_was_looked_for(tmp_path, name, file):
    match = rf"looked for .*{file}\); pass data\.root=.*data\.download=true"
    refuses(match, source="torchvision", name=name, root=str(tmp_path))


def test_one_missing_or_broken_file_is_named(mnist_root):
    settings = {"source": "torchvision", "name": "MNIST", "root": str(mnist_root)}
    images = mnist_root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:5000])
    refuses("cannot read MNIST under data.root=.*train-images-idx3-ubyte", **settings)
    (images.parent / "t10k-labels-idx1-ubyte").unlink()
    refuses("looked for .*t10k-labels-idx1-ubyte", **settings)


def test_torchvision_needs_a_known_name_and_a_root():
    refuses("did you mean 'FashionMNIST'", source="torchvision", name="FashonMNIST", root=".")
    refuses("data.name is not set", source="torchvision", root=".")
    refuses("data.root is not set", source="torchvision", name="MNIST")


# folders


def make_classes(root, *, side="", names=("cat", "dog"), num=3, shape=(6, 9)):
    for name in names:
        for index in range(num):
            save(root / side / name / f"{index:03d}.png", random_bytes(*shape))


def test_folder_with_both_sides(tmp_path):
    make_classes(tmp_path, side="train", names=("10", "2", "1"))
    make_classes(tmp_path, side="test", names=("10", "2", "1"), num=2)
    train, test = (load(split, source="folder", path=str(tmp_path)) for split in ("train", "test"))
    assert (len(train), len(test), train.image_shape) == (9, 6, (1, 6, 9))
    assert train.class_names == test.class_names == ("1", "2", "10")
    assert train.ids[-1] == "train/10/002.png"
    assert train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    stored = np.asarray(Image.open(tmp_path / "train" / "2" / "001.png"))
    assert np.array_equal(as_bytes(train.images)[4, 0].numpy(), stored)


def test_unsplit_folder_moves_no_record_when_one_is_added(tmp_path):
    make_classes(tmp_path, num=40)
    settings = {"source": "folder", "path": str(tmp_path)}
    train, test = load("train", **settings), load("test", **settings)
    assert len(train) + len(test) == 80
    assert 4 <= len(test) <= 30
    save(tmp_path / "cat" / "000-new.png", random_bytes(6, 9))
    after = set(load("train", **settings).ids), set(load("test", **settings).ids)
    assert set(train.ids) <= after[0]
    assert set(test.ids) <= after[1]
    assert (after[0] | after[1]) - set(train.ids) - set(test.ids) == {"cat/000-new.png"}


def test_one_colour_image_makes_all_colour_on_both_sides(tmp_path):
    make_classes(tmp_path, side="train")
    make_classes(tmp_path, side="test")
    settings = {"source": "folder", "path": str(tmp_path)}
    assert load(**settings).image_shape == (1, 6, 9)
    orange = np.broadcast_to(np.array([255, 128, 0], dtype=np.uint8), (6, 9, 3)).copy()
    save(tmp_path / "test" / "dog" / "orange.PNG", orange)
    assert load(**settings).image_shape == (3, 6, 9)
    assert as_bytes(load("test", **settings).images)[-1, :, 2, 3].tolist() == [255, 128, 0]
    grey = as_bytes(load("test", grey=True, **settings).images)[-1, 0]
    assert (grey == round(0.299 * 255 + 0.587 * 128)).all()


def test_modes_keep_their_meaning(tmp_path):
    """16 bits over their full range, 1 bit, a grey palette, and transparency over white, all in one grey folder."""
    levels = np.array([[0, 64, 255]], dtype=np.uint8)
    save(tmp_path / "train" / "a" / "0-wide.png", levels.astype(np.uint16) * 257)
    save(tmp_path / "train" / "a" / "1-bit.png", np.array([[0, 255, 255]], dtype=np.uint8), "1")
    palette = Image.fromarray(np.array([[2, 1, 0]], dtype=np.uint8)).convert("P")
    palette.putpalette([level for grey in (255, 64, 0) for level in (grey,) * 3])
    save(tmp_path / "train" / "a" / "2-palette.png", palette)
    alpha = np.stack([np.full((1, 3), 0, np.uint8), np.array([[255, 0, 255]], np.uint8)], axis=-1)
    save(tmp_path / "train" / "a" / "3-alpha.png", Image.fromarray(alpha))
    found = load(source="folder", path=str(tmp_path))
    assert found.image_shape == (1, 1, 3)
    assert as_bytes(found.images)[:, 0, 0].tolist() == [[0, 64, 255], [0, 255, 255], [0, 64, 255], [0, 255, 0]]


def test_a_coloured_palette_becomes_rgb(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).convert("P")
    image.putpalette([10, 20, 30, 200, 100, 0])
    save(tmp_path / "train" / "a" / "0.png", image)
    found = load(source="folder", path=str(tmp_path))
    assert as_bytes(found.images)[0, :, 0].T.tolist() == [[10, 20, 30], [200, 100, 0]]


def test_mixed_sizes_are_refused_or_resized(tmp_path):
    make_classes(tmp_path, side="train")
    save(tmp_path / "train" / "dog" / "001.png", random_bytes(5, 7))
    settings = {"source": "folder", "path": str(tmp_path)}
    refuses(r"dog/001.png is 7x5 but .*cat/000.png is 9x6; pass data.image_size=", **settings)
    assert load(image_size=10, **settings).image_shape == (1, 10, 10)


def test_a_corrupt_image_is_named(tmp_path):
    make_classes(tmp_path, side="train", shape=(40, 40))
    file = tmp_path / "train" / "cat" / "001.png"
    file.write_bytes(file.read_bytes()[:200])
    refuses("cannot decode .*cat/001.png", source="folder", path=str(tmp_path))
    file.write_bytes(b"no image at all")
    refuses("cannot decode .*cat/001.png", source="folder", path=str(tmp_path))


def test_folder_reads_only_images_and_only_as_many_as_asked(tmp_path):
    make_classes(tmp_path, side="train", num=4)
    (tmp_path / "train" / "cat" / "notes.txt").write_text("no image")
    (tmp_path / "train" / "cat" / "._000.png").write_text("no image either")
    few = load(source="folder", path=str(tmp_path), limit=3)
    assert few.ids == ("train/cat/000.png", "train/cat/001.png", "train/dog/000.png")


@pytest.mark.parametrize("sides", [("train", "test"), ("",)])
def test_images_without_class_folders_are_of_one_class_for_pseudo_labels_alone(tmp_path, sides):
    for side in sides:
        for index in range(30):
            save(tmp_path / side / f"{index:02d}.png", random_bytes(4, 4))
    settings = {"source": "folder", "path": str(tmp_path)}
    refuses(r"no images in .*data\.pseudo_labels=", **settings)
    train, test = (load(side, pseudo_labels=3, **settings) for side in ("train", "test"))
    assert train.class_names == test.class_names == ("unlabelled",)
    assert len(train) + len(test) == 30 * len(sides)
    assert not train.labels.any()
    assert not set(train.ids) & set(test.ids)


def test_class_folders_count_even_where_pseudo_labels_are_asked_for(tmp_path):
    make_classes(tmp_path, side="train")
    settings = {"source": "folder", "path": str(tmp_path)}
    assert load(pseudo_labels=5, **settings).class_names == load(**settings).class_names


def test_missing_folders_are_named(tmp_path):
    refuses("data.path is not set", source="folder")
    refuses("no folder at data.path=.*nowhere.*looked for", source="folder", path=str(tmp_path / "nowhere"))
    refuses("no images in data.path=", source="folder", path=str(tmp_path))
    make_classes(tmp_path, side="train")
    refuses("has a train folder but no .*test", split="test", source="folder", path=str(tmp_path))
    (tmp_path / "train" / "owl").mkdir()
    refuses("class 'owl' .* has no records", source="folder", path=str(tmp_path))


# npz


@pytest.fixture
def npz(tmp_path):
    """Writes arrays to a file and says how to load it."""

    def write(**arrays):
        np.savez(tmp_path / "data.npz", **arrays)
        return {"source": "npz", "path": str(tmp_path / "data.npz")}

    return write


def medmnist(*shape, num=6, **changed):
    labels = (np.arange(num) % 3).astype(np.uint8)[:, None]
    arrays = {"train_images": random_bytes(num, *shape), "train_labels": labels}
    arrays |= {"test_images": random_bytes(num, *shape), "test_labels": labels, "val_images": random_bytes(1, *shape)}
    return arrays | changed


@pytest.mark.parametrize("shape", [(7, 5), (7, 5, 1), (7, 5, 3)])
def test_npz_in_medmnist_form(npz, shape):
    arrays = medmnist(*shape)
    test = load("test", **npz(**arrays))
    assert test.images.shape == (6, shape[2] if len(shape) == 3 else 1, 7, 5)
    stored = arrays["test_images"].reshape(6, 7, 5, -1)
    assert np.array_equal(as_bytes(test.images).permute(0, 2, 3, 1).numpy(), stored)
    assert test.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert test.class_names == ("0", "1", "2")


def test_samples_in_an_npz_split_in_their_order(npz):
    images, labels = random_bytes(60, 4, 4), np.arange(60) % 2
    settings = npz(images=images, labels=labels)
    train, test = load("train", **settings), load("test", **settings)
    place_of = {image.tobytes(): place for place, image in enumerate(images)}
    places = [[place_of[image.numpy().tobytes()] for image in as_bytes(side.images)] for side in (train, test)]
    assert all(of_side == sorted(of_side) for of_side in places)
    assert sorted(places[0] + places[1]) == list(range(60))
    assert 3 <= len(test) <= 24
    assert test.labels.tolist() == labels[places[1]].tolist()


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 1.0)])
def test_npz_floats_find_their_range(npz, low, high):
    unit = RANDOM.random((6, 4, 4))
    images = low + (high - low) * unit
    found = load(**npz(**medmnist(4, 4, train_images=images)))
    np.testing.assert_allclose(found.images[:, 0].numpy(), 2 * unit - 1, atol=1e-6)


def test_npz_arrays_of_the_wrong_kind_are_named(npz):
    floats = RANDOM.random((6, 4, 4))
    broken = floats.copy()
    broken[2, 1, 1] = np.nan
    for match, changed in (
        (r"record '.*' \(number 2, counted from 0\) has a pixel that is nan", {"train_images": broken}),
        (r"train_images: floats in \[.*255\]; expected", {"train_images": np.where(floats > 0.5, 255.0, floats)}),
        ("train_images: int64", {"train_images": np.zeros((6, 4, 4), dtype=np.int64)}),
        ("train_images: shape .6, 7, 4, 5.", {"train_images": random_bytes(6, 7, 4, 5)}),
        ("5 train_images but 6 train_labels", {"train_images": random_bytes(5, 4, 4)}),
        (r"train_labels is uint8 \[6, 2\]", {"train_labels": np.zeros((6, 2), dtype=np.uint8)}),
        ("train_labels is float64", {"train_labels": np.arange(6) / 2}),
        (r"label 200 of record '.*' \(number 4, .* is outside", {"train_labels": np.array([0, 1, 2, 0, 200, 1])}),
        (r"label -1 of record '.*' \(number 0", {"train_labels": np.array([-1, 1, 2, 0, 0, 1])}),
        (r"class '1' .* has no records", {"train_labels": np.array([0, 2, 2, 0, 0, 2])}),
        ("cannot read 'train_images'", {"train_images": np.array([{}] * 6, dtype=object)}),
    ):
        refuses(match, **npz(**medmnist(4, 4, **changed)))


@pytest.mark.parametrize("sides", [("train_", "test_"), ("",)])
def test_npz_without_labels_is_of_one_class_for_pseudo_labels_alone(npz, sides):
    settings = npz(**{f"{side}images": random_bytes(40, 4, 4) for side in sides})
    refuses(r"found keys .*data\.pseudo_labels=", **settings)
    train, test = (load(side, pseudo_labels=3, **settings) for side in ("train", "test"))
    assert train.class_names == test.class_names == ("unlabelled",)
    assert len(train) + len(test) == 40 * len(sides)
    labelled = npz(**medmnist(4, 4))
    assert load(pseudo_labels=7, **labelled).class_names == ("0", "1", "2")


def test_npz_takes_the_number_of_classes_from_the_config(npz):
    settings = npz(**medmnist(4, 4))
    fewer = load(num_classes=2, **settings)
    assert (fewer.labels.tolist(), fewer.left_out, fewer.class_names) == ([0, 1, 0, 1], 2, ("0", "1"))
    assert load(num_classes=4, **settings).class_names == ("0", "1", "2", "3")
    assert load(class_names=("ant", "bee", "cat"), **settings).class_names == ("ant", "bee", "cat")


@pytest.mark.parametrize("size", [28, 64, 224])
def test_medmnist_at_any_of_its_sizes(npz, size):
    assert load("test", **npz(**medmnist(size, size, 3))).image_shape == (3, size, size)


def test_npz_with_transparency_and_16_bits(npz):
    plain = random_bytes(6, 7, 5)
    wide = load(**npz(**medmnist(7, 5, train_images=plain.astype(np.uint16) * 257)))
    assert (as_bytes(wide.images)[:, 0].numpy() == plain).all()
    assert RANGE_OF_DATA not in wide.read_off
    assert wide.report.notes == ("16 bits are taken over their full range",)
    rgba = np.stack([plain] * 3 + [np.full_like(plain, 255)], axis=-1)
    rgba[0, ..., 3] = 0
    for array in (rgba, rgba.transpose(0, 3, 1, 2), rgba / 255, rgba.astype(np.uint16) * 257):
        found = load(image_size=0, **npz(**medmnist(7, 5, 3, train_images=array)))
        assert found.image_shape == (3, 7, 5)
        assert "transparency is laid over white" in found.report.notes
        assert (as_bytes(found.images)[0] == 255).all()
        assert (as_bytes(found.images)[1:, 2].numpy() == plain[1:]).all()


def test_npz_labels_of_other_kinds_are_mapped_and_it_is_said(npz):
    numbers = np.arange(6) % 3
    names = np.array(["owl", "ant", "bee"])
    for labels, class_names, own, told in (
        (numbers + 1, ("1", "2", "3"), numbers, "labels begin at 1"),
        (np.eye(3)[numbers], ("0", "1", "2"), numbers, None),
        (np.eye(3, dtype=bool)[numbers], ("0", "1", "2"), numbers, None),
        (names[numbers], ("ant", "bee", "owl"), (numbers + 2) % 3, "labels are texts"),
        (names[numbers].astype("S")[:, None], ("ant", "bee", "owl"), (numbers + 2) % 3, "labels are texts"),
    ):
        found = load(**npz(**medmnist(4, 4, train_labels=labels, test_labels=labels)))
        assert (found.class_names, found.labels.tolist()) == (class_names, own.tolist())
        assert CLASSES_OF_DATA in found.read_off
        assert (found.report.notes[:1] == ()) if told is None else found.report.notes[0].startswith(told)
        assert dict(found.report.skipped) == {"on a side that is neither train nor test": 1}


def test_npz_labels_by_what_is_stated(npz):
    numbers = np.arange(6) % 3
    shifted = load(first_label=5, num_classes=3, **npz(**medmnist(4, 4, train_labels=numbers + 5)))
    assert (shifted.class_names, shifted.labels.tolist(), shifted.read_off) == (("5", "6", "7"), numbers.tolist(), ())
    texts = npz(**medmnist(4, 4, train_labels=np.array(["owl", "ant", "bee"])[numbers]))
    found = load(class_names=("bee", "owl"), **texts)
    assert (found.labels.tolist(), found.left_out, found.read_off) == ([1, 0, 1, 0], 2, ())
    rows = np.eye(3)[numbers]
    rows[2] = [1, 0, 1]
    several = npz(**medmnist(4, 4, train_labels=rows))
    refuses("train_labels .* row 2 is not one-hot", **several)
    assert (load(num_classes=3, **several).left_out, len(load(num_classes=3, **several))) == (1, 5)


def test_a_label_that_comes_moves_no_id_in_an_npz(npz):
    """Whether classes are stated or not: a new class before the others gives them other numbers, and no other ids."""
    images, names = random_bytes(30, 4, 4), np.array(["bee", "owl"])[np.arange(30) % 2]
    for stated in ({}, {"class_names": ("bee", "owl")}):
        ids = []
        for more in (0, 30):
            labels = np.concatenate([names, ["ant"] * more])
            settings = npz(images=np.concatenate([images, images[:more] // 2]), labels=labels)
            ids.append({(side, name) for side in ("train", "test") for name in load(side, **stated, **settings).ids})
        assert ids[0] <= ids[1]
        assert len(ids[0]) == 30


@pytest.mark.parametrize(
    ("changed", "mend"),
    [
        ({"test_images": random_bytes(6, 5, 4)}, {"image_size": 8}),
        ({"test_images": random_bytes(6, 4, 4, 3)}, {"grey": True}),
        ({"test_labels": np.array([0, 1, 0, 1, 0, 1])}, {"num_classes": 3}),
    ],
)
def test_sides_of_an_npz_are_checked_against_each_other(npz, changed, mend):
    settings = npz(**medmnist(4, 4, **changed))
    refuses("make them alike|class '2' of the train side has no records on the test side", **settings)
    assert len(load(**mend, **settings)) == len(load("test", **mend, **settings)) == 6
    refuses("6 test_images but 5 test_labels", **npz(**medmnist(4, 4, test_labels=np.arange(5) % 3)))


def test_missing_or_broken_npz_files_are_named(tmp_path, npz):
    refuses("data.path is not set", source="npz")
    refuses("no file at data.path=.*gone.npz", source="npz", path=str(tmp_path / "gone.npz"))
    settings = npz(train_images=random_bytes(2, 4, 4), other=np.zeros(3))
    refuses("found keys train_images, other; expected train_images, train_labels", **settings)
    (tmp_path / "data.npz").write_bytes((tmp_path / "data.npz").read_bytes()[:100])
    refuses("data.npz': not a readable .npz file", **settings)
    np.save(tmp_path / "array.npy", np.zeros(3))
    refuses("not a readable .npz file", source="npz", path=str(tmp_path / "array.npy"))
