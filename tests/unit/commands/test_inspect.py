import json
import stat

import numpy as np
import pytest
from PIL import Image

from dpsad.api.config import Config
from dpsad.commands.inspect import run_inspect
from dpsad.commands.proposal import rounded
from dpsad.data.copies import content_hash, near_groups, thumbnail
from dpsad.data.sources import load_images
from dpsad.runtime.config_files import load_config

RANDOM = np.random.default_rng(0)


def noise(*shape):
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


@pytest.fixture
def cats_and_dogs(tmp_path):
    """Grey images of two sizes, two of them equal though in other files, a likely copy, and what is no image."""
    root = tmp_path / "pets"
    for side, num in (("train", 12), ("test", 4)):
        for name in ("cat", "dog"):
            for index in range(num):
                save(root / side / name / f"{index}.png", noise(20, 24))
    pixels = noise(30, 30)
    save(root / "train" / "cat" / "a.png", pixels)
    save(root / "test" / "dog" / "b.bmp", np.stack([pixels] * 3, axis=-1))
    gradient = np.linspace(0, 255, 900).reshape(30, 30).astype(np.uint8)
    save(root / "train" / "dog" / "c.png", gradient)
    save(root / "train" / "dog" / "d.jpg", gradient, quality=60)
    (root / "train" / "dog" / "e.png").write_bytes(b"no image")
    (root / "train" / "dog" / "scan.dcm").write_bytes(b"")
    return root


def told(path, tmp_path, *overrides):
    out = tmp_path / "told" / "all.json"
    shown = run_inspect(path, overrides, config=None, out=out).text
    return shown, json.loads(out.read_text(encoding="utf-8")), out


def test_what_is_there_is_counted(cats_and_dogs, tmp_path):
    shown, found, out = told(cats_and_dogs, tmp_path)
    assert found["counts"] == {"train": {"cat": 13, "dog": 14}, "test": {"cat": 4, "dog": 5}}
    assert found["sizes"] == [[24, 20, 32], [30, 30, 4]]
    assert dict(found["formats"]) == {"PNG L": 34, "BMP RGB": 1, "JPEG L": 1}
    assert found["in_colour"] == 0
    assert dict(found["report"]["skipped"]) == {
        "an image that cannot be decoded": 1,
        "no image by its extension (.dcm)": 1,
    }
    equal, near = found["equal"], found["near"]
    assert (equal["groups"], equal["images"], equal["across_sides"], equal["across_classes"]) == (1, 2, 1, 1)
    assert [name.rpartition("/")[2] for name in near["examples"][0]] == ["c.png", "d.jpg"]
    assert (near["groups"], near["across_sides"]) == (1, 0)
    assert "for its owner's eyes" in shown
    assert found["note"].startswith("private")
    assert stat.S_IMODE(out.stat().st_mode) == 0o600


def test_the_proposal_is_a_config_that_reads_and_states_all(cats_and_dogs, tmp_path):
    shown, found, _ = told(cats_and_dogs, tmp_path)
    file = tmp_path / "mine.yaml"
    file.write_text(shown[shown.index("# a config to begin with") :], encoding="utf-8")
    config = load_config(Config, base=file, overrides=())
    train, test = (load_images(config.data, side) for side in ("train", "test"))
    assert (len(train), len(test), train.read_off, train.image_shape) == (27, 9, (), (1, 20, 20))
    assert config.privacy.num_records == 30
    assert config.privacy.delta < 1 / 27
    assert found["config"]["data"]["class_names"] == ["cat", "dog"]


def npz(tmp_path, **arrays):
    np.savez(tmp_path / "data.npz", **arrays)
    return tmp_path / "data.npz"


@pytest.mark.parametrize(
    ("images", "labels", "expected"),
    [
        (noise(60, 9, 9), np.arange(60) % 3, {"num_classes": 3, "image_size": 9, "grey": True}),
        (noise(60, 9, 9, 3) / 255, np.arange(60) % 3 + 1, {"first_label": 1, "range": "unit", "colour": True}),
        (noise(60, 9, 9) / 127.5 - 1, np.array(["b", "a"] * 30), {"class_names": ["a", "b"], "range": "signed"}),
    ],
)
def test_the_proposal_for_an_archive_states_all(tmp_path, images, labels, expected):
    path = npz(tmp_path, images=images, labels=labels)
    shown, found, _ = told(path, tmp_path)
    assert expected.items() <= found["config"]["data"].items()
    file = tmp_path / "mine.yaml"
    file.write_text(shown[shown.index("# a config") :], encoding="utf-8")
    config = load_config(Config, base=file, overrides=())
    stated = load_images(config.data, "train")
    assert stated.read_off == ()
    plain = load_images(type(config.data)(source="npz", path=str(path)), "train")
    assert (plain.ids, plain.labels.tolist()) == (stated.ids, stated.labels.tolist())


def test_what_becomes_public_holds_no_count_of_a_class(cats_and_dogs, tmp_path):
    _, found, _ = told(cats_and_dogs, tmp_path, "privacy.num_records=1000", "data.image_size=16")
    public = " ".join(found["becomes_public"])
    assert "cat, dog" in public
    assert "1000" in public
    assert "16x16" in public
    assert not any(word in public for word in ("13", "14", "27", "36"))
    assert "all 27" in " ".join(told(cats_and_dogs, tmp_path)[1]["becomes_public"])


def test_a_class_on_one_side_is_shown_and_not_refused(cats_and_dogs, tmp_path):
    save(cats_and_dogs / "train" / "owl" / "0.png", noise(20, 24))
    shown, found, _ = told(cats_and_dogs, tmp_path)
    assert found["counts"]["test"]["owl"] == 0
    assert "owl  train 1, test 0  <- a side without images" in shown


def test_a_source_can_be_named(tmp_path):
    _, found, _ = told(tmp_path, tmp_path, "data.source=digits")
    assert sum(found["counts"]["train"].values()) == 1442


def test_a_file_that_cannot_be_written_is_named(cats_and_dogs, tmp_path):
    with pytest.raises(ValueError, match=r"--out .* cannot be written"):
        run_inspect(cats_and_dogs, [], config=None, out=cats_and_dogs)


def test_a_count_is_rounded():
    assert [rounded(num) for num in (3, 58, 1442, 60000, 19_876)] == [10, 60, 1400, 60000, 20000]


def test_equal_pixels_are_equal_in_grey_and_colour_and_others_are_not():
    grey = noise(6, 4)
    assert content_hash(grey) == content_hash(np.stack([grey] * 3, axis=-1))
    assert content_hash(grey) != content_hash(grey.reshape(4, 6))


def test_different_images_are_not_called_near():
    digits = noise(500, 16, 16)
    assert near_groups(np.array([thumbnail(image) for image in digits])) == []
