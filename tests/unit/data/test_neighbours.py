"""Neighbours from the file on: a record that goes, or comes, however odd it is, touches no other, in any source."""

import io
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from dpsad.data.arrays import image_set_of
from dpsad.data.config import DataConfig
from dpsad.data.records import CLASSES_OF_DATA, COLOUR_OF_DATA, RANGE_OF_DATA, SIZE_OF_DATA
from dpsad.data.shards import shard_of
from dpsad.data.sources import load_images
from dpsad.privacy.statement import LIMITED

NUM = 60
RANDOM = np.random.default_rng(0)
BYTES = RANDOM.integers(0, 256, (NUM, 28, 28), dtype=np.uint8)
BYTES[40:44] = BYTES[:4]  # some records are there twice
LABELS = np.arange(NUM, dtype=np.uint8) % 4
NAMES = tuple(f"class {label}" for label in range(4))
FLOATS = (BYTES / 255).astype(np.float32)


def write_mnist(root, images, labels):
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for side in ("train", "t10k"):
        header = np.array([0x803, len(images), 28, 28], dtype=">i4").tobytes()
        (raw / f"{side}-images-idx3-ubyte").write_bytes(header + images.tobytes())
        header = np.array([0x801, len(images)], dtype=">i4").tobytes()
        (raw / f"{side}-labels-idx1-ubyte").write_bytes(header + labels.tobytes())
    return DataConfig(source="torchvision", name="MNIST", root=str(root))


def write_npz(root, images, labels, **settings):
    sides = {f"{side}_{what}": array for side in ("train", "test") for what, array in
             (("images", images), ("labels", labels))}  # fmt: skip
    np.savez(root / "data.npz", **sides)
    return DataConfig(source="npz", path=str(root / "data.npz"), num_classes=4, **settings)


def write_samples(root, images, labels, **settings):
    np.savez(root / "data.npz", images=images, labels=labels)
    return DataConfig(source="npz", path=str(root / "data.npz"), num_classes=4, **settings)


def write_floats(root, images, labels):
    return write_samples(root, images.astype(np.float32) / 255, labels, range="unit")


def write_folder(root, images, labels, sides=("",)):
    for side in sides:
        for image, label in zip(images, labels, strict=True):
            folder = root / side / f"class {label}"
            folder.mkdir(parents=True, exist_ok=True)
            place = int(np.flatnonzero((image == BYTES).all((1, 2)) & (label == LABELS))[0])
            name = f"{place:02d}.png" if not (folder / f"{place:02d}.png").exists() else f"{place:02d}-twin.png"
            Image.fromarray(image).save(folder / name)
    return DataConfig(source="folder", path=str(root), class_names=NAMES, image_size=28, grey=True)


def write_split_folder(root, images, labels):
    return write_folder(root, images, labels, sides=("train", "test"))


def write_texts(root, images, labels):
    np.savez(root / "data.npz", images=images, labels=np.array([f"class {label}" for label in labels]))
    return DataConfig(source="npz", path=str(root / "data.npz"), class_names=NAMES)


def write_one_hot(root, images, labels):
    return write_samples(root, images, np.eye(4, dtype=np.uint8)[labels])


def write_nested_folder(root, images, labels):
    """Classes by the parent, below folders that are no classes."""
    config = write_folder(root / "all", images, labels)
    return replace(config, path=str(root), labels="parent")


def write_lines(root, images, labels):
    config = write_folder(root, images, labels)
    lines = [f"{path.relative_to(root).as_posix()},{path.parent.name}\n" for path in sorted(root.rglob("*.png"))]
    (root / "labels.csv").write_text("path,label\n" + "".join(lines))
    return replace(config, labels="csv")


def write_archive(root, images, labels, sides=("all",)):
    for side in sides:
        with tarfile.open(root / f"{side}.tar", "w") as archive:
            for place, (image, label) in enumerate(zip(images, labels, strict=True)):
                png = io.BytesIO()
                Image.fromarray(image).save(png, "PNG")
                for kind, content in (("png", png.getvalue()), ("cls", f"class {label}".encode())):
                    info = tarfile.TarInfo(f"{place:04d}.{kind}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))
    return DataConfig(source="webdataset", path=str(root), class_names=NAMES, image_size=28, grey=True)


def write_split_archives(root, images, labels):
    return write_archive(root, images, labels, sides=("train", "test"))


SOURCES = [
    write_mnist, write_npz, write_samples, write_floats, write_folder, write_split_folder, write_texts, write_one_hot,
    write_nested_folder, write_lines, write_archive, write_split_archives,
]  # fmt: skip


def found(config):
    """What is made of each record: (side, id) -> its image, label, shard, and whether it is among a share of half."""
    facts = {}
    for side in ("train", "test"):
        records = load_images(config, side)
        some = set(load_images(replace(config, share=0.5), side).ids)
        for image, label, name in zip(records.images, records.labels.tolist(), records.ids, strict=True):
            facts[side, name] = (image.numpy().tobytes(), label, shard_of(name, 50, key=b"k"), name in some)
    return facts


@pytest.fixture(params=SOURCES, ids=lambda write: write.__name__)
def before_and_without(request, tmp_path):
    """(place that goes) -> what is made of all records, and of all but that one."""

    def read(gone):
        facts = []
        for kept in (np.arange(NUM), np.delete(np.arange(NUM), gone)):
            root = tmp_path / f"{len(facts)}"
            root.mkdir()
            facts.append(found(request.param(root, BYTES[kept], LABELS[kept])))
        return facts

    return read


@pytest.mark.parametrize("gone", [0, 30, 41, NUM - 1])
def test_a_record_that_goes_takes_its_own_facts_alone(before_and_without, gone):
    """Also one that is there twice: what stays is what there was of one of them."""
    before, after = before_and_without(gone)
    assert after.items() < before.items()
    assert len(before) - len(after) in (1, 2), "one record of each side where both sides have the same, else one"
    (lost,) = {before[key][0] for key in before.keys() - after.keys()}
    images = image_set_of(BYTES[gone : gone + 1]).images
    np.testing.assert_allclose(np.frombuffer(lost, np.float32), images.numpy().ravel(), atol=1e-6)


def test_digits_are_a_fixed_file():
    """Ids and sides go by the number in scikit-learn's file: were it another, its records would get others' names."""
    train, test = (load_images(DataConfig(), side) for side in ("train", "test"))
    numbers = sorted(int(name.removeprefix("digits-")) for name in train.ids + test.ids)
    assert numbers == list(range(1797))
    assert (train.fingerprint(), test.fingerprint()) == (
        "c99d652d0e7b08dfe73d7ae076cf8f71",
        "f0c85ef737345653bba57301e7f0a476",
    )


# one odd record among those that are read by stated rules


def odd_pixel(value):
    def write(root, odd):
        images = np.concatenate([FLOATS, np.full((1, 28, 28), 0.5, np.float32)])
        images[-1, 3, 3] = value
        kept = NUM + odd
        return write_samples(root, images[:kept], np.append(LABELS, 1)[:kept], range="unit")

    return write


def odd_label(label):
    def write(root, odd):
        labels = np.append(LABELS.astype(np.int64), label)
        return write_samples(root, np.concatenate([BYTES, BYTES[:1] // 2])[: NUM + odd], labels[: NUM + odd])

    return write


def odd_file(make, folder="class 1"):
    def write(root, odd):
        config = write_folder(root, BYTES, LABELS)
        if odd:
            (root / folder).mkdir(exist_ok=True)
            make(root / folder / "odd.png")
        return config

    return write


def in_colour(path):
    Image.fromarray(RANDOM.integers(0, 256, (28, 28, 3), dtype=np.uint8)).save(path)


def large(path):
    Image.fromarray(BYTES[0].repeat(2, axis=0)).save(path)


def no_image(path):
    path.write_bytes(b"no image at all")


def first_of_all(path):
    large(path.with_name("-first.png"))


def first_without_others(root, odd):
    """The first record of a class that has no other."""
    config = write_folder(root, BYTES[LABELS != 2], LABELS[LABELS != 2])
    if odd:
        (root / "class 2").mkdir()
        shutil.copy(root / "class 1" / "01.png", root / "class 2" / "00.png")
    return config


ODD = {
    "slightly negative": (odd_pixel(-0.001), 1),
    "far outside": (odd_pixel(300.0), 1),
    "not a number": (odd_pixel(np.nan), 0),
    "infinite": (odd_pixel(np.inf), 0),
    "label too large": (odd_label(200), 0),
    "negative label": (odd_label(-1), 0),
    "colour": (odd_file(in_colour), 1),
    "another size": (odd_file(large), 1),
    "another size, first": (odd_file(first_of_all, "class 0"), 1),
    "not decodable": (odd_file(no_image), 0),
    "another class": (odd_file(large, "class 9"), 0),
    "only one of its class": (first_without_others, 1),
}


@pytest.mark.parametrize("case", ODD)
def test_an_odd_record_decides_for_no_other_where_the_rules_are_stated(tmp_path, case):
    write, num_more = ODD[case]
    facts = []
    for odd in (0, 1):
        root = tmp_path / str(odd)
        root.mkdir()
        config = write(root, odd)
        facts.append(found(config))
        sides = [load_images(config, side) for side in ("train", "test")]
        assert {side.read_off for side in sides} == {()}
        assert sum(side.left_out for side in sides) == (odd and not num_more and case != "another class")
        assert len({side.image_shape for side in sides} | {(1, 28, 28)}) == 1
    assert facts[0].items() <= facts[1].items()
    assert len(facts[1]) - len(facts[0]) == num_more


def test_what_is_not_stated_is_said_to_be_read_off(tmp_path):
    folder = write_folder(tmp_path / "folder", BYTES, LABELS)
    npz = write_samples(tmp_path, FLOATS, LABELS)
    for config, facts in (
        (replace(folder, class_names=()), {CLASSES_OF_DATA}),
        (replace(folder, image_size=0), {SIZE_OF_DATA}),
        (replace(folder, grey=False), {COLOUR_OF_DATA}),
        (replace(folder, grey=False, colour=True), set()),
        (DataConfig(source="folder", path=folder.path), {CLASSES_OF_DATA, SIZE_OF_DATA, COLOUR_OF_DATA}),
        (replace(npz, range="unit"), set()),
        (npz, {RANGE_OF_DATA}),
        (replace(npz, num_classes=0), {RANGE_OF_DATA, CLASSES_OF_DATA}),
        (DataConfig(), set()),
        (DataConfig(share=0.1), set()),
        (DataConfig(limit=2000), {LIMITED}),
    ):
        assert set(load_images(config, "train").read_off) == facts, config


def test_arrays_say_what_was_read_off_them_and_what_was_left_out():
    assert image_set_of(BYTES, LABELS).read_off == (CLASSES_OF_DATA,)
    assert image_set_of(BYTES, LABELS, class_names=[]).read_off == (CLASSES_OF_DATA,)
    assert image_set_of(BYTES).read_off == ()
    names = [f"class {label}" for label in range(4)]
    plain = image_set_of(FLOATS, LABELS, class_names=names, pixel_range="unit")
    odd = FLOATS.copy()
    odd[7, 1, 1], odd[9, 2, 2] = -0.001, np.nan
    read = image_set_of(odd, LABELS, class_names=names, pixel_range="unit")
    assert (plain.read_off, read.read_off, read.left_out, len(read)) == ((), (), 1, NUM - 1)
    assert len(set(plain.ids) - set(read.ids)) == 2
    texts = image_set_of(BYTES, np.array(names)[LABELS], class_names=[*reversed(names[:3]), "none"])
    assert (texts.left_out, texts.labels[:3].tolist()) == ((LABELS == 3).sum(), [2, 1, 0])


def test_contradictions_are_refused(tmp_path):
    for match, settings in (
        ("data.range='percent' must be one of", {"range": "percent"}),
        ("data.grey=true and data.colour=true", {"grey": True, "colour": True}),
        (r"data.share=0.0 must be in", {"share": 0.0}),
        (r"data.share=nan must be in", {"share": float("nan")}),
        ("data.class_names names 1 different classes in 2 places", {"class_names": ("a", "a")}),
        ("data.class_names names 2 different .* data.num_classes=3", {"class_names": ("a", "b"), "num_classes": 3}),
    ):
        with pytest.raises(ValueError, match=match):
            DataConfig(**settings)
    npz, folder = write_samples(tmp_path, BYTES, LABELS), write_folder(tmp_path / "folder", BYTES, LABELS)
    for match, config in (
        ("uint8 holds bytes, not the range 'unit'", replace(npz, range="unit")),
        ("has no folder that data.class_names names", replace(folder, class_names=("cat",))),
        ("data.class_names=a, b but its classes are 0, 1", DataConfig(class_names=("a", "b"))),
    ):
        with pytest.raises(ValueError, match=match):
            load_images(config, "train")


def test_grey_to_colour_has_equal_parts():
    images = load_images(DataConfig(colour=True, share=0.1), "train").images
    assert images.shape[1] == 3
    assert (images == load_images(DataConfig(share=0.1), "train").images).all()
