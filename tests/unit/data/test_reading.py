"""Formats, labels and what is not read: every reader on files that the test makes itself."""

import csv
import io
import json
import os
import tarfile
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from dpsad.data.config import DataConfig
from dpsad.data.decoding import decode, header_of
from dpsad.data.files import named_side
from dpsad.data.recognition import recognised
from dpsad.data.sources import LISTS, load_images
from dpsad.data.tables import columns_told, list_parquet, rows_found, saved_files

RANDOM = np.random.default_rng(0)
LEVELS = np.array([[0, 64, 128], [200, 255, 7]], dtype=np.uint8)


def random_bytes(*shape):
    return RANDOM.integers(0, 256, shape, dtype=np.uint8)


def encoded(pixels, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def save(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random_bytes(6, 6) if pixels is None else pixels).save(path)


def as_bytes(images):
    return ((images + 1) * 127.5).round().to(torch.uint8)


def load(split="train", **settings):
    return load_images(DataConfig(**settings), split)


def skipped(**settings):
    return dict(LISTS[settings["source"]](DataConfig(**settings)).report.skipped)


# image formats


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff", "gif", "pgm", "pnm"])
def test_every_format_without_loss_has_the_same_pixels(tmp_path, suffix):
    path = tmp_path / "train" / "a" / f"0.{suffix}"
    save(path, LEVELS)
    assert np.array_equal(as_bytes(load(source="folder", path=str(tmp_path)).images)[0, 0].numpy(), LEVELS)


@pytest.mark.parametrize("suffix", ["ppm", "webp", "jpg"])
def test_formats_in_colour(tmp_path, suffix):
    flat = np.full((8, 8, 3), (250, 128, 10), dtype=np.uint8)
    save(tmp_path / "train" / "a" / f"0.{suffix}", flat)
    found = as_bytes(load(source="folder", path=str(tmp_path)).images)[0]
    assert (found.int() - torch.tensor([250, 128, 10])[:, None, None]).abs().max() <= 4


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bits_are_taken_over_their_full_range(tmp_path, suffix):
    save(tmp_path / f"0.{suffix}", LEVELS.astype(np.uint16) * 257)
    pixels = decode(tmp_path / f"0.{suffix}", "it", colour=False, side=0, pixel_range="auto")
    assert np.array_equal(pixels, LEVELS)


@pytest.mark.parametrize(("pixel_range", "low", "high"), [("unit", 0, 1), ("signed", -1, 1), ("bytes", 0, 255)])
def test_floats_in_tiff_need_a_range_and_are_cut_to_it(tmp_path, pixel_range, low, high):
    path = tmp_path / "0.tif"
    save(path, np.array([[low, (low + high) / 2, high, high + 9, low - 9]], dtype=np.float32))
    pixels = decode(path, "it", colour=False, side=0, pixel_range=pixel_range)
    assert pixels[0].tolist() in ([0, 127, 255, 255, 0], [0, 128, 255, 255, 0])
    with pytest.raises(ValueError, match=r"holds floats: pass data\.range"):
        decode(path, "it", colour=False, side=0, pixel_range="auto")


def test_the_first_frame_counts_and_transparency_is_laid_over_white(tmp_path):
    frames = [Image.fromarray(np.full((4, 4), level, np.uint8)) for level in (40, 200)]
    frames[0].save(tmp_path / "0.gif", save_all=True, append_images=frames[1:])
    assert header_of(tmp_path / "0.gif", "it").animated
    assert (decode(tmp_path / "0.gif", "it", colour=False, side=0, pixel_range="auto") == 40).all()
    rgba = np.zeros((1, 2, 4), np.uint8)
    rgba[0, 0, 3] = 255
    png = encoded(rgba)
    assert header_of(png, "it").transparent
    assert decode(png, "it", colour=True, side=0, pixel_range="auto").tolist() == [[[0] * 3, [255] * 3]]


def test_the_header_tells_the_upright_size():
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(random_bytes(8, 16)).save(file, "JPEG", exif=exif)
    pixels = decode(file.getvalue(), "it", colour=False, side=0, pixel_range="auto")
    assert header_of(file.getvalue(), "it").size == (8, 16) == pixels.shape[::-1]


# folders


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes, which Windows keeps elsewhere")
def test_a_pipe_among_images_is_not_waited_for(tmp_path):
    save(tmp_path / "train" / "a" / "0.png")
    os.mkfifo(tmp_path / "train" / "a" / "1.png")
    with pytest.raises(ValueError, match=r"1\.png .*is no regular file"):
        load(source="folder", path=str(tmp_path))
    stated = {"class_names": ("a",), "image_size": 6, "grey": True}
    assert load(source="folder", path=str(tmp_path), **stated).left_out == 1


def test_nested_folders_are_classes_by_the_top_or_by_the_parent(tmp_path):
    for hospital in ("north", "south"):
        for name in ("healthy", "ill"):
            for index in range(20):
                save(tmp_path / hospital / name / f"{index}.png")
    settings = {"source": "folder", "path": str(tmp_path)}
    top, parent = load(**settings), load(labels="parent", **settings)
    assert (top.class_names, parent.class_names) == (("north", "south"), ("healthy", "ill"))
    assert "data.labels=parent" in top.report.notes[0]
    assert parent.report.notes == ()
    assert set(top.ids) == set(parent.ids), "labels move no record to the other side"
    for record_id, label in zip(parent.ids, parent.labels.tolist(), strict=True):
        assert record_id.split("/")[1] == parent.class_names[label]
    with pytest.raises(ValueError, match=r"data\.labels='parents' must be one of .*did you mean 'parent'"):
        DataConfig(labels="parents")


def test_what_a_folder_holds_besides_is_counted_by_reason(tmp_path):
    for side in ("train", "test"):
        save(tmp_path / side / "cat" / "0.png")
    (tmp_path / "train" / "cat" / "scan.DCM").write_bytes(b"x")
    (tmp_path / "train" / "cat" / "README").write_bytes(b"x")
    (tmp_path / "train" / "cat" / ".hidden.png").write_bytes(b"x")
    save(tmp_path / "train" / "loose.png")
    for index in range(3):
        save(tmp_path / "val" / "cat" / f"{index}.png")
    settings = {"source": "folder", "path": str(tmp_path)}
    assert skipped(**settings) == {
        "no image by its extension (.dcm)": 1,
        "no image by its extension (none)": 1,
        "hidden: the name begins with a dot": 1,
        "an image beside the class folders": 1,
        "on a side that is neither train nor test": 3,
    }
    assert dict(load(**settings).report.skipped) == skipped(**settings)
    named = load(class_names=("cat",), image_size=6, grey=True, **settings)
    assert named.report.skipped == load(**settings).report.skipped


def test_a_link_in_a_circle_ends(tmp_path):
    save(tmp_path / "train" / "cat" / "0.png")
    (tmp_path / "train" / "cat" / "again").symlink_to(tmp_path / "train")
    assert skipped(source="folder", path=str(tmp_path)) == {"in a linked folder inside a class folder": 1}


@pytest.mark.parametrize("lacking", ["train", "test"])
def test_sides_that_do_not_go_together_are_refused_before_training(tmp_path, lacking):
    for side in ("train", "test"):
        for name in ("cat", "dog"):
            save(tmp_path / side / name / "0.png")
    settings = {"source": "folder", "path": str(tmp_path)}
    (tmp_path / lacking / "dog" / "0.png").unlink()
    with pytest.raises(ValueError, match=f"class 'dog' of the .* side has no records on the {lacking} side"):
        load(**settings)
    load(class_names=("cat", "dog"), **settings)
    save(tmp_path / lacking / "dog" / "0.png", random_bytes(7, 5))
    with pytest.raises(ValueError, match=r"is 6x6 but|is 5x7 but"):
        load(**settings)


# files of labels


def write_lines(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, rows[0], delimiter=";" if "semi" in path.name else ",")
            writer.writeheader()
            writer.writerows(rows)


@pytest.mark.parametrize("name", ["labels.csv", "semi.csv", "labels.jsonl"])
def test_a_file_of_labels(tmp_path, name):
    rows = [{"file_name": f"all/{index:02d}.png", "label": ["no", "yes"][index % 2]} for index in range(40)]
    for row in rows:
        save(tmp_path / row["file_name"])
    save(tmp_path / "all" / "unnamed.png")
    odd = [("all/gone.png", "no"), ("all/a.dcm", "no"), ("all/00.png", "")]
    write_lines(tmp_path / name, [dict(zip(("file_name", "label"), cells, strict=True)) for cells in odd] + rows)
    settings = {"source": "folder", "labels": "csv", "path": str(tmp_path)}
    train, test = load("train", **settings), load("test", **settings)
    assert set(train.ids) | set(test.ids) == {row["file_name"] for row in rows}
    assert train.class_names == ("no", "yes")
    assert all(int(name[4:6]) % 2 == label for name, label in zip(train.ids, train.labels.tolist(), strict=True))
    assert list(dict(train.report.skipped).values()) == [1, 1, 1, 1]
    by_file = load("train", **{**settings, "path": str(tmp_path / name)})
    assert by_file.ids == train.ids


def test_a_column_of_splits_says_the_sides(tmp_path):
    rows = [
        {"path": f"{index}.png", "class": "a", "kind": str(index % 2), "split": ("train", "test", "val")[index % 3]}
        for index in range(12)
    ]
    for row in rows:
        save(tmp_path / row["path"])
    write_lines(tmp_path / "l.csv", rows)
    settings = {"source": "folder", "labels": "csv", "path": str(tmp_path), "label_column": "kind"}
    assert load("test", **settings).ids == ("4.png", "10.png", "1.png", "7.png")
    assert skipped(**settings) == {"on a side that is neither train nor test": 4}
    with pytest.raises(ValueError, match=r"no column 'kin', but path, class, kind, split; pass data\.label_column"):
        load(**{**settings, "label_column": "kin"})
    write_lines(tmp_path / "l.csv", [*rows, rows[0]])
    with pytest.raises(ValueError, match=r"'0\.png' occurs in two lines"):
        load(**settings)


# archives


def write_tar(path, members):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def samples(num, kind="cls"):
    label = {"cls": b"%d", "txt": b"kind %d\n", "json": b'{"label": %d, "more": 1}'}[kind]
    members = []
    for index in range(num):
        members += [(f"d/{index:04d}.png", encoded(random_bytes(5, 5))), (f"d/{index:04d}.{kind}", label % (index % 3))]
    return members


@pytest.mark.parametrize(("kind", "names"), [("cls", "012"), ("txt", ("kind 0", "kind 1", "kind 2")), ("json", "012")])
def test_archives_of_pairs(tmp_path, kind, names):
    members = samples(60, kind)
    write_tar(tmp_path / "all.tgz", members)
    settings = {"source": "webdataset", "path": str(tmp_path / "all.tgz")}
    train, test = load("train", **settings), load("test", **settings)
    assert len(train) + len(test) == 60
    assert not set(train.ids) & set(test.ids)
    assert train.class_names == tuple(names)
    label_of = {np.asarray(Image.open(io.BytesIO(content))).tobytes(): index % 3
                for index, (_, content) in enumerate(members[::2])}  # fmt: skip
    found = [label_of[image.numpy().tobytes()] for image in as_bytes(train.images)]
    assert found == train.labels.tolist()


def test_shards_have_sides_by_their_names_and_the_rest_is_counted(tmp_path):
    for name, num in (("set-train-0000", 9), ("set-train-0001", 9), ("set-test-0000", 6), ("set-val-0000", 3)):
        write_tar(tmp_path / f"{name}.tar", samples(num))
    extra = [
        ("a.png", encoded(LEVELS)),
        ("b.cls", b"1"),
        ("c.mp3", b""),
        (".d.png", b""),
        ("e.json", b"{"),
        ("e.png", b"x"),
        ("f.json", b'{"label":' * 50_000),
        ("f.png", encoded(LEVELS)),
    ]
    write_tar(tmp_path / "set-train-0002.tar", extra)
    settings = {"source": "webdataset", "path": str(tmp_path)}
    assert (len(load("train", **settings)), len(load("test", **settings))) == (18, 6)
    assert skipped(**settings) == {
        "a label without an image": 1,
        "hidden: the name begins with a dot": 1,
        "no image by its extension (.mp3)": 1,
        "on a side that is neither train nor test": 3,
        "without a label": 3,
    }


def test_sides_by_name():
    names = (
        "train-00000-of-00002.parquet",
        "mnist_test_1.tar",
        "x/validation.tar",
        "contrast.tar",
        "train/0.tar",
        "dev",
    )
    assert [named_side(name) for name in names] == ["train", "test", "other", "", "train", "other"]


def test_broken_archives_are_named(tmp_path):
    (tmp_path / "a.tar").write_bytes(b"no archive at all")
    for match, path in (
        ("cannot read .*a.tar", "a.tar"),
        ("nothing at data.path", "gone"),
        (r"no files \(\.tar", "empty"),
    ):
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises(ValueError, match=match):
            load(source="webdataset", path=str(tmp_path / path))


# tables


FEATURES = {
    "info": {"features": {"x": {"_type": "Image"}, "y": {"_type": "ClassLabel", "names": ["ant", "bee"]}, "z": []}}
}


def test_rows_of_a_table():
    count = Counter()
    png = encoded(LEVELS)
    images = [png, {"bytes": png, "path": "a.png"}, {"bytes": None, "path": "b.png"}, png, png]
    rows = list(rows_found(images, [0, 1, 1, -1, None], ("ant", "bee"), "t.parquet", "train", count))
    assert [row.label for row in rows] == ["ant", "bee", None, None]
    assert rows[1].name == "t.parquet: row 1"
    assert list(count.values()) == [1]
    assert [row.label for row in rows_found([png] * 2, [3, 2.0], (), "t", "", count)] == ["3", "2"]
    told = columns_told({b"huggingface": json.dumps(FEATURES).encode()})
    assert (told["x"].kind, told["y"].names, told["z"].kind) == ("Image", ("ant", "bee"), "")
    assert columns_told({b"huggingface": b"{"}) == columns_told(None) == {}


def test_files_of_a_saved_data_set(tmp_path):
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for side in ("train", "test"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "state.json").write_text('{"_data_files": [{"filename": "data-0.arrow"}]}')
    assert [(file.relative_to(tmp_path).as_posix(), side) for file, side in saved_files(str(tmp_path))] == [
        ("train/data-0.arrow", "train"), ("test/data-0.arrow", "test"),
    ]  # fmt: skip
    (tmp_path / "test" / "state.json").unlink()
    with pytest.raises(ValueError, match="is no saved data set"):
        saved_files(str(tmp_path))


def test_without_pyarrow_a_line_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"data\.source=parquet needs pyarrow .*pip install 'dpsad\[parquet\]'"):
        list_parquet(DataConfig(source="parquet", path="x"))


@pytest.fixture
def table():
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'dpsad[parquet]'")

    def make(num):
        images = [{"bytes": encoded(random_bytes(5, 5)), "path": f"{index}.png"} for index in range(num)]
        made = arrow.table({"x": images, "y": [index % 2 for index in range(num)]})
        return made.replace_schema_metadata({"huggingface": json.dumps(FEATURES)})

    return make


def test_parquet_files(tmp_path, table):
    from pyarrow import parquet

    for side, num in (("train", 8), ("test", 4), ("validation", 2)):
        parquet.write_table(table(num), tmp_path / f"{side}-00000-of-00001.parquet")
    settings = {"source": "parquet", "path": str(tmp_path), "label_column": "y"}
    train, test = load("train", **settings), load("test", **settings)
    assert (len(train), len(test), train.class_names, train.image_shape) == (8, 4, ("ant", "bee"), (1, 5, 5))
    assert skipped(**settings) == {"on a side that is neither train nor test": 2}


def test_saved_data_sets(tmp_path, table):
    import pyarrow

    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for side, num in (("train", 8), ("test", 4)):
        (tmp_path / side).mkdir()
        (tmp_path / side / "state.json").write_text('{"_data_files": [{"filename": "data-0.arrow"}]}')
        made = table(num)
        with pyarrow.ipc.new_stream(str(tmp_path / side / "data-0.arrow"), made.schema) as file:
            file.write_table(made)
    train = load("train", source="huggingface", path=str(tmp_path), label_column="y")
    assert (len(train), train.class_names) == (8, ("ant", "bee"))


# recognition


@pytest.mark.parametrize(
    ("files", "path", "source"),
    [
        (["a/0.png", "b/0.png"], "", "folder"),
        (["a/0.png", "b/0.png", "notes.csv"], "", "folder"),
        (["all/0.png", "labels.csv"], "", "csv"),
        (["labels.jsonl"], "labels.jsonl", "csv"),
        (["d.npz"], "d.npz", "npz"),
        (["d.npz", "readme.md"], "", "npz"),
        (["data/train-0.parquet", "readme.md"], "", "parquet"),
        (["x-train-0.tar", "x-train-1.tar"], "", "webdataset"),
        (["x.tar.gz"], "x.tar.gz", "webdataset"),
        (["dataset_dict.json", "train/data.arrow"], "", "huggingface"),
    ],
)
def test_a_source_is_known_by_the_files(tmp_path, files, path, source):
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    known = recognised(tmp_path / path)
    assert ("csv" if known.labels == "csv" else known.source) == source


def test_what_no_source_reads_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no source reads .*a\.zip"):
        recognised(tmp_path / "a.zip")
    with pytest.raises(ValueError, match="nothing at"):
        recognised(tmp_path / "gone")
