"""What is called public is no record, whatever it is called and however it comes in."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dpsad.privacy.statement import PUBLIC_IMAGES, UNNOTED_IMAGES
from dpsad.runtime.checkpoint import load, save_atomic

TINY = (
    "network.channels=8",
    "teacher.data=public",
    "teacher.steps=2",
    "student.steps=1",
    "refine.steps=0",
    "sampler.steps=1",
    "privacy.num_records=60",
    "pretrain.steps=2",
    "compress.steps=2",
    "autoencoder.channels=8",
    "autoencoder.patch=1",
    "network.attention_levels=[0]",
    "baseline.steps=1",
    "baseline.batch_size=20",
)
REFUSAL = "some of the images that were taken to be public are records themselves"


def drawn(seed, *shape):
    return np.random.default_rng(seed).integers(0, 256, shape or (60, 8, 8)).astype(np.uint8)


def save_npz(path, images, labels=None):
    labels = np.arange(len(images)) % 3 if labels is None else labels
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)


def save_folder(path, images, name):
    for index, image in enumerate(images):
        for side in ("train", "test"):
            folder = path / side / str(index % 3)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / name.format(index))


def save_fashion_mnist(root):
    """The raw layout, with 20 images a side."""
    raw = root / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for seed, side in enumerate(("train", "t10k")):
        header = [np.array(words, ">i4").tobytes() for words in ([0x00000803, 20, 28, 28], [0x00000801, 20])]
        (raw / f"{side}-images-idx3-ubyte").write_bytes(header[0] + drawn(seed, 20, 28, 28).tobytes())
        labels = (np.arange(20) % 10).astype(np.uint8)
        (raw / f"{side}-labels-idx1-ubyte").write_bytes(header[1] + labels.tobytes())


@dataclass
class Two:
    """Where to write private and public images, and what the command is told of them beside `records.npz` for both."""

    folder: Path
    private: tuple[str, ...] = ()
    public: tuple[str, ...] = ()

    @property
    def records(self):
        return self.folder / "records.npz"

    def words(self):
        path = f"path={self.records}"
        private, public = ("source=npz", path, *self.private), ("source=npz", path, *self.public)
        return [*(f"data.{word}" for word in private), *(f"public_data.{word}" for word in public)]


def other_spelling(two):
    two.public = (f"path={two.folder}/../{two.folder.name}/./records.npz",)


def link(two):
    (two.folder / "link.npz").symlink_to(two.records)
    two.public = (f"path={two.folder}/link.npz",)


def renamed_copy(two):
    shutil.copy(two.records, two.folder / "copy.npz")
    two.public = (f"path={two.folder}/copy.npz",)


def saved_anew(two):
    """In another order, as floats, under other labels."""
    save_npz(two.folder / "anew.npz", drawn(0)[::-1] / np.float32(255), np.arange(60) % 2)
    two.public = (f"path={two.folder}/anew.npz",)


def one_of_many(two):
    save_npz(two.folder / "many.npz", np.concatenate([drawn(1), drawn(0)[:1]]))
    two.public = (f"path={two.folder}/many.npz",)


def in_colour(two):
    save_npz(two.folder / "colour.npz", np.stack([drawn(0)] * 3, axis=3))
    two.public = (f"path={two.folder}/colour.npz",)


def enlarged(two):
    two.public = ("image_size=16",)


def as_they_were_before_records_were_enlarged(two):
    shutil.copy(two.records, two.folder / "copy.npz")
    two.private, two.public = ("image_size=16",), (f"path={two.folder}/copy.npz",)


def archive_of_a_folder(two):
    save_folder(two.folder / "records", drawn(0), "{}.png")
    two.private = ("source=folder", f"path={two.folder}/records")


def folder_with_other_names(two):
    archive_of_a_folder(two)
    save_folder(two.folder / "public", drawn(0)[::-1], "scan-{:04d}.bmp")
    two.public = ("source=folder", f"path={two.folder}/public")


def set_by_another_name(two):
    save_fashion_mnist(two.folder)
    common = ("source=torchvision", f"root={two.folder}")
    two.private, two.public = (*common, "name=FashionMNIST"), (*common, "name=fashion-mnist")


@pytest.mark.parametrize(
    "copy",
    [
        other_spelling,
        link,
        renamed_copy,
        saved_anew,
        one_of_many,
        in_colour,
        enlarged,
        as_they_were_before_records_were_enlarged,
        archive_of_a_folder,
        folder_with_other_names,
        set_by_another_name,
    ],
)
def test_a_copy_of_the_records_is_not_public(command, tmp_path, copy):
    two = Two(tmp_path)
    save_npz(two.records, drawn(0))
    copy(two)
    run = tmp_path / "run"
    code, printed = command("teach", "--config", "digits", f"run={run}", *TINY, *two.words())
    assert (code, f"the public images: {REFUSAL}" in printed) == (2, True), printed
    assert not run.exists()


def test_the_default_is_not_public(command, tmp_path):
    """`public_data` names the digits where nobody says more, as `data` does."""
    code, printed = command("teach", "--config", "digits", f"run={tmp_path / 'run'}", *TINY)
    assert (code, REFUSAL in printed) == (2, True), printed


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """records.npz, and others.npz and third.npz with none of them; each has a black image, which is nobody's."""
    folder = tmp_path_factory.mktemp("images")
    for seed, name in enumerate(("records", "others", "third")):
        save_npz(folder / f"{name}.npz", np.concatenate([drawn(seed), np.zeros((1, 8, 8), np.uint8)]))
    return folder


@pytest.fixture
def words(folder, tmp_path):
    def told(run, private, public, *more):
        sides = {"data": private, "public_data": public}
        paths = [f"{section}.path={folder}/{name}.npz" for section, name in sides.items()]
        sources = [f"{section}.source=npz" for section in sides]
        return ("--config", "digits", f"run={tmp_path / run}", *TINY, *sources, *paths, *more)

    return told


def not_covered(run):
    return json.loads((run / "release" / "privacy.json").read_text())["not_covered"]


def test_a_teacher_of_records_that_were_called_public_elsewhere_is_refused(command, words, tmp_path):
    code, printed = command("teach", *words("elsewhere", "others", "records"))
    assert code == 0, printed
    teacher = tmp_path / "elsewhere" / "private" / "teacher.pt"
    code, printed = command("distill", *words("here", "records", "others", f"teacher.path={teacher}"))
    assert (code, f"the teacher: {REFUSAL}" in printed) == (2, True), printed
    assert not (tmp_path / "here").exists()
    code, printed = command("distill", *words("there", "others", "third", f"teacher.path={teacher}"))
    assert code == 0, printed
    assert PUBLIC_IMAGES in not_covered(tmp_path / "there")
    assert UNNOTED_IMAGES not in not_covered(tmp_path / "there")

    old = tmp_path / "teacher.pt"
    save_atomic({key: value for key, value in load(teacher).items() if key != "public_images"}, old)
    code, printed = command("distill", *words("here", "records", "others", f"teacher.path={old}"))
    assert code == 0, printed
    assert {PUBLIC_IMAGES, UNNOTED_IMAGES} <= set(not_covered(tmp_path / "here"))


def test_a_model_that_was_pretrained_on_records_is_refused(command, words, tmp_path):
    method = "method=dp-diffusion"
    code, printed = command("baseline", *words("elsewhere", "others", "records", method))
    assert code == 0, printed
    assert PUBLIC_IMAGES in not_covered(tmp_path / "elsewhere")
    path = tmp_path / "elsewhere" / "private" / "pretrained.pt"
    code, printed = command("baseline", *words("here", "records", "others", method, f"pretrain.path={path}"))
    assert (code, f"pretrain.path={path}: {REFUSAL}" in printed) == (2, True), printed
    assert not (tmp_path / "here").exists()

    old = tmp_path / "pretrained.pt"
    save_atomic({key: value for key, value in load(path).items() if key != "public_images"}, old)
    code, printed = command("baseline", *words("here", "records", "others", method, f"pretrain.path={old}"))
    assert code == 0, printed
    assert UNNOTED_IMAGES in not_covered(tmp_path / "here")


def test_an_autoencoder_of_records_is_refused_although_its_denoiser_knows_none(command, words, tmp_path):
    method = "method=dp-ldm"
    for run, public in (("elsewhere", "records"), ("fine", "third")):
        code, printed = command("baseline", *words(run, "others", public, method))
        assert code == 0, printed
    pretrained = tmp_path / "fine" / "private" / "pretrained.pt"
    told = (method, f"pretrain.path={pretrained}")
    code, printed = command("baseline", *words("there", "records", "others", *told))
    assert code == 0, printed
    assert PUBLIC_IMAGES in not_covered(tmp_path / "there")
    shutil.copy(tmp_path / "elsewhere" / "private" / "autoencoder.pt", pretrained.with_name("autoencoder.pt"))
    code, printed = command("baseline", *words("here", "records", "others", *told))
    path = pretrained.with_name("autoencoder.pt")
    assert (code, f"the autoencoder at {path}: {REFUSAL}" in printed) == (2, True), printed
    assert not (tmp_path / "here").exists()


def test_what_is_wrong_with_public_images_is_told_by_their_keys(command, tmp_path):
    """A class that one side alone has, for one; `data.class_names` is no mend for those."""
    images, labels = drawn(0), np.arange(60) % 3
    np.savez(
        tmp_path / "public.npz",
        train_images=images, train_labels=labels, test_images=images, test_labels=labels % 2,
    )  # fmt: skip
    save_npz(tmp_path / "records.npz", drawn(1))
    code, printed = command(
        "baseline", f"run={tmp_path / 'run'}", "method=dp-diffusion", "data.source=npz", "public_data.source=npz",
        f"data.path={tmp_path / 'records.npz'}", f"public_data.path={tmp_path / 'public.npz'}",
        "baseline.batch_size=10",
        "network.channels=8", "privacy.epsilon=inf", "privacy.delta=1e-3",
    )  # fmt: skip
    assert code == 2
    assert "(public_data.class_names)" in printed
    assert f"public_data.path='{tmp_path}" in printed
    assert " data." not in printed
    assert not (tmp_path / "run").exists()
