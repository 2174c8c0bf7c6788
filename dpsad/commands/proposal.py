"""A config to begin with, from what a source holds: it states what every run makes public, for its owner to correct."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
import yaml

from dpsad.data.config import DataConfig
from dpsad.data.files import at_home
from dpsad.data.sources import load_images
from dpsad.data.survey import Survey
from dpsad.privacy.config import PrivacyConfig

LARGE, SMALL = 64, 8  # sides in pixels that are proposed where images are larger, or of many sizes
BY_NAME = ("digits", "torchvision")  # what these hold is known by their name


def proposed(config: DataConfig, found: Survey) -> dict[str, dict[str, Any]]:
    """The sections of a config file: where the data is, and what of it is stated.

    Args:
        config: what was said of the data; it stands.
    """
    data = {field.name: getattr(config, field.name) for field in fields(config)}
    defaults = DataConfig()
    said = {name: value for name, value in data.items() if value != getattr(defaults, name)}
    said = {"source": config.source, **said}
    for key in ("path", "root"):
        if said.get(key):
            said[key] = str(at_home(said[key]).absolute())
    if config.source not in BY_NAME and not config.pseudo_labels:
        said |= _classes(config, found)
    if config.source not in BY_NAME:
        said |= {"image_size": config.image_size or side_of(found)}
        said |= {} if config.grey or config.colour else {"colour" if found.in_colour else "grey": True}
        said |= _range(config)
    said = {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}
    privacy: dict[str, Any] = {"num_records": rounded(found.num("train"))}
    if PrivacyConfig().delta >= 0.1 / max(1, privacy["num_records"]):
        privacy["delta"] = float(f"{0.1 / privacy['num_records']:.0e}")
    return {"data": said, "privacy": privacy}


def as_yaml(sections: dict[str, dict[str, Any]]) -> str:
    """The block that `--config` takes, from a file."""
    return yaml.safe_dump(sections, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def side_of(found: Survey) -> int:
    """A side of the square to resize to: the images' own where they are small squares, else at most 64 pixels."""
    if not found.sizes:
        return 0
    width, height, _ = found.sizes[0]
    if len(found.sizes) == 1 and width == height <= LARGE:
        return width
    shorter = sorted(min(width, height) for width, height, num in found.sizes for _ in range(num))
    return max(SMALL, min(LARGE, shorter[len(shorter) // 2] // 4 * 4))


def rounded(num: int) -> int:
    """A round number near a count, to two digits and to tens: near enough to train by, and easier to make public."""
    return max(10, round(int(float(f"{num:.1e}")), -1))


def _classes(config: DataConfig, found: Survey) -> dict[str, Any]:
    names = found.class_names
    if config.class_names or config.num_classes:
        return {}
    if config.source == "npz" and all(name.isdigit() for name in names):
        first = {"first_label": int(names[0])} if int(names[0]) else {}
        return {"num_classes": len(names), **first}
    return {"class_names": list(names)}


def _range(config: DataConfig) -> dict[str, str]:
    """What an archive's floats were taken for."""
    if config.source != "npz" or config.range != "auto":
        return {}
    ranges = {}
    for name in ("unit", "signed"):
        try:
            ranges[name] = load_images(replace(config, range=name), "train").images
        except ValueError:  # the archive holds integers, which have their range by their type
            return {}
    taken = load_images(config, "train").images
    return {"range": next((name for name, images in ranges.items() if torch.equal(images, taken)), "auto")}
