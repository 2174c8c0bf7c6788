"""Data source: folders of image files."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from dpsad.data.config import DataConfig
from dpsad.data.pixels import from_bytes, to_grey
from dpsad.data.records import CLASSES_OF_DATA, COLOUR_OF_DATA, SIZE_OF_DATA, UNLABELLED, ImageSet
from dpsad.data.splits import first_in_turn, held_out, joins

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


@dataclass(frozen=True)
class _Entry:
    path: Path
    record_id: str
    class_name: str
    split: str


def read_folder(config: DataConfig, split: str) -> ImageSet:
    """Reads `path/train/<class>/*` and `path/test/<class>/*`; without a `train` folder, `path/<class>/*` split 80/20.

    The 80/20 split goes by a hash of the relative path, which is also the record's id, so adding a record moves no
    other. Files are .png, .jpg, .jpeg, .bmp or .webp; names that begin with a dot are skipped. Classes are
    `class_names`, and images of others are left out; or, where none are stated, all folders of both sides, sorted by
    name, by number where all names are integers. With `pseudo_labels`, images may also lie where the class folders
    would; they are of one class, "unlabelled".

    With `grey` or `colour` each image is brought to that by itself; without, all become RGB if any of either side has
    colour. 16 bits are cut to 8 over their full range, transparency is laid over white, and photographs are turned
    upright. With `image_size`, images are resized as they are read, so they may differ in size; without, every image
    has the size of the first. Where all of this is stated, an image that cannot be decoded becomes NaN, which
    `validate` leaves out.

    Raises:
        ValueError: no folder, no class folders, no images; where something is not stated, an image that cannot be
            decoded, images of several sizes.
    """
    if config.path is None:
        raise ValueError("data.path is not set; data.source=folder needs data.path=..., a folder of class folders")
    root = Path(config.path).expanduser()
    if not root.is_dir():
        raise ValueError(f"no folder at data.path='{config.path}' (looked for {root.absolute()}); pass data.path=...")
    class_names, entries = _list(root, config, split)
    stated = {
        CLASSES_OF_DATA: bool(config.class_names),
        SIZE_OF_DATA: bool(config.image_size),
        COLOUR_OF_DATA: config.grey or config.colour,
    }
    own = [entry for entry in entries if entry.split == split and joins(entry.record_id, config.share)]
    label_of = {name: label for label, name in enumerate(class_names)}
    labels = torch.tensor([label_of[entry.class_name] for entry in own], dtype=torch.int64)
    chosen = first_in_turn(labels, config.limit)
    own = [own[place] for place in chosen.tolist()]
    return ImageSet(
        images=_read(own, entries, config, skip_broken=all(stated.values())),
        labels=labels[chosen],
        ids=tuple(entry.record_id for entry in own),
        class_names=class_names,
        read_off=tuple(fact for fact in stated if not stated[fact]),
    )


def _list(root: Path, config: DataConfig, split: str) -> tuple[tuple[str, ...], list[_Entry]]:
    """Class names, and all files of both sides: train before test, by class, by name."""
    shown, stated = config.path, config.class_names
    sides = ("train", "test") if (root / "train").is_dir() else ("",)
    if "train" in sides and not (root / split).is_dir():
        raise ValueError(
            f"data.path='{shown}' has a train folder but no {root / split}; add it, "
            "or move the class folders out of train to have them split 80/20"
        )
    present = [side for side in sides if (root / side).is_dir()]
    folders = [(side, folder, folder.name) for side in present for folder in _visible(root / side) if folder.is_dir()]
    if not folders and config.pseudo_labels:
        folders = [(side, root / side, UNLABELLED) for side in present]
    class_names = stated or _sorted_classes({name for _, _, name in folders})
    folders = [found for found in folders if found[2] in class_names]
    if stated and not folders:
        raise ValueError(
            f"data.path='{shown}' has no folder that data.class_names names ({', '.join(stated)}); correct "
            "data.class_names, or pass data.class_names=[] to go by the folders"
        )
    order = {name: place for place, name in enumerate(class_names)}
    entries = []
    for side, folder, name in sorted(folders, key=lambda found: (sides.index(found[0]), order[found[2]])):
        for path in _visible(folder):
            if path.suffix.lower() in _SUFFIXES:
                record_id = path.relative_to(root).as_posix()
                own_side = side or ("test" if held_out(record_id) else "train")
                entries.append(_Entry(path, record_id, name, own_side))
    if not entries:
        expected = root / sides[0] / "<class>"
        raise ValueError(
            f"no images in data.path='{shown}'; expected {expected}/*.png (or {', '.join(_SUFFIXES[1:])}), or, without "
            "classes, data.pseudo_labels=... (guarantee=nominal alone)"
        )
    return class_names, entries


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _sorted_classes(names: set[str]) -> tuple[str, ...]:
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))


def _read(own: list[_Entry], entries: list[_Entry], config: DataConfig, *, skip_broken: bool) -> Tensor:
    """[num, chan, height, width] of `own`; what is not stated is taken from all `entries`."""
    side, first = config.image_size, entries[0].path
    colour = config.colour or (not config.grey and any(_has_colour(entry.path) for entry in entries))
    width, height = (side, side) if side else _upright_size(first)
    images = torch.full((len(own), 3 if colour else 1, height, width), torch.nan)

    def read(entry: _Entry) -> Tensor | None:
        try:
            pixels = _decode(entry.path, colour or config.grey, side)
        except ValueError:
            if skip_broken:
                return None
            raise
        image = from_bytes(pixels[None])
        return (image if colour else to_grey(image))[0]

    with ThreadPoolExecutor() as pool:
        for place, image in enumerate(pool.map(read, own)):
            if image is None:
                continue
            if image.shape[1:] != images.shape[2:]:
                odd = f"{own[place].path} is {image.shape[2]}x{image.shape[1]}"
                raise ValueError(f"{odd} but {first} is {width}x{height}; pass data.image_size=... to resize all")
            images[place] = image
    return images


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    try:
        with Image.open(path) as image:
            yield image
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error and more for broken bytes
        raise ValueError(f"cannot decode {path} ({error}); replace or remove the file") from error


def _upright_size(path: Path) -> tuple[int, int]:
    with _opened(path) as image:
        return ImageOps.exif_transpose(image).size


def _has_colour(path: Path) -> bool:
    with _opened(path) as image:
        if image.mode in ("P", "PA"):
            palette = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
            return bool((palette != palette[:, :1]).any())
        return not image.mode.startswith(("1", "L", "I", "F")) or image.mode == "LAB"


def _decode(path: Path, colour: bool, side: int) -> np.ndarray:
    with _opened(path) as stored:
        image = ImageOps.exif_transpose(stored)
        if image.mode.startswith("I"):
            image = Image.fromarray((np.asarray(image).clip(0, 65535) / 257).round().astype(np.uint8))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB" if colour else "L")
        if side and image.size != (side, side):
            image = image.resize((side, side), Image.Resampling.BILINEAR)
        return np.asarray(image)
