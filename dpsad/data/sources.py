"""Data sources by name."""

from __future__ import annotations

import difflib
from dataclasses import replace

import torch

from dpsad.data.config import DataConfig
from dpsad.data.digits import read_digits
from dpsad.data.folder import list_folder, read_folder
from dpsad.data.npz import read_npz
from dpsad.data.pixels import to_colour, to_grey, to_square
from dpsad.data.records import ImageSet, validate
from dpsad.data.splits import first_in_turn, joins
from dpsad.data.tables import list_parquet, list_saved_dataset, read_parquet, read_saved_dataset
from dpsad.data.torchvision_sets import read_torchvision
from dpsad.data.webdataset import list_webdataset, read_webdataset
from dpsad.privacy.statement import LIMITED


def _read_memory(config: DataConfig, split: str) -> ImageSet:
    raise ValueError(
        "data.source=memory: these images came from a program, which alone has them; use dpsad.train and "
        "dpsad.evaluate there, or another data.source"
    )


SOURCES = {
    "digits": read_digits,
    "torchvision": read_torchvision,
    "folder": read_folder,
    "npz": read_npz,
    "parquet": read_parquet,
    "webdataset": read_webdataset,
    "huggingface": read_saved_dataset,
    "memory": _read_memory,
}

LISTS = {  # of encoded images, before any is decoded
    "folder": list_folder,
    "parquet": list_parquet,
    "webdataset": list_webdataset,
    "huggingface": list_saved_dataset,
}


def load_images(config: DataConfig, split: str) -> ImageSet:
    """Reads one side of a source, checked and in the form that `config` asks for.

    Args:
        split: train or test.

    Raises:
        ValueError: what is missing, broken or contradictory, by config key, with the mend.
    """
    if split not in ("train", "test"):
        raise ValueError(f"split '{split}' is unknown; choose train or test")
    if config.source not in SOURCES:
        close = difflib.get_close_matches(config.source, SOURCES, n=1)
        hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(SOURCES)}"
        raise ValueError(f"data.source='{config.source}' is unknown; {hint}")
    where = f"{_describe(config)} ({split})"
    records = SOURCES[config.source](config, split)
    if config.num_classes and records.num_classes != config.num_classes:
        raise ValueError(
            f"{where}: data.num_classes={config.num_classes} but it has {records.num_classes} classes "
            f"({', '.join(records.class_names)}); pass data.num_classes=0 to take them all"
        )
    if config.class_names and records.class_names != config.class_names:
        raise ValueError(
            f"{where}: data.class_names={', '.join(config.class_names)} but its classes are "
            f"{', '.join(records.class_names)}; pass data.class_names=[] to take those"
        )
    if config.share < 1:
        records = records.take(torch.tensor([joins(name, config.share) for name in records.ids], dtype=torch.bool))
    records = validate(records, where=where)
    if config.limit:
        chosen = first_in_turn(records.labels, config.limit)
        records = replace(records.take(chosen), read_off=(*records.read_off, LIMITED))
    images = to_grey(records.images) if config.grey else records.images
    images = to_colour(images) if config.colour else images
    images = to_square(images, config.image_size) if config.image_size else images
    return replace(records, images=images)


def _describe(config: DataConfig) -> str:
    if config.source == "digits":
        return "data.source=digits"
    if config.source == "torchvision":
        return f"data.name='{config.name}'"
    return f"data.path='{config.path}'"
