"""What `dpsad inspect` does: what a source holds, what of it is read, and what of it a run makes public."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from dpsad.api.config import Config
from dpsad.commands.proposal import as_yaml, proposed
from dpsad.commands.read import read_config
from dpsad.commands.reporting import Found
from dpsad.data.config import DataConfig
from dpsad.data.recognition import recognised
from dpsad.data.survey import SHOWN, Copies, Survey, survey

PRIVATE = "private: counted on the records themselves, without any protection; for their owner's eyes, as this file is"
NEVER_PUBLIC = (
    "how many images a class, a size or the test side has",
    "names of files, their formats, and what is not read",
    "copies of images, and where they are",
)


def run_inspect(path: Path, overrides: Sequence[str], *, config: str | None, out: Path | None) -> Found:
    """Looks through a folder or file.

    Args:
        path: of the images; the source is known by it, unless `data.source` is among the overrides.
        overrides: key=value, as for any run.
        config: a preset's name or a YAML file, or None.
        out: a .json file for all of it, readable by its owner only; None writes none.

    Returns:
        What to show, and all of it for programs.

    Raises:
        ValueError: nothing is there, or what the source refuses; `out` cannot be written.
    """
    settings = read_config(config, [*located(path, overrides), *overrides])
    found = survey(settings.data)
    sections = proposed(settings.data, found)
    public = public_facts(settings, found)
    beside = {"becomes_public": public, "never_public": NEVER_PUBLIC, "config": sections}
    facts = {"note": PRIVATE, **asdict(found), **beside}
    if out is not None:
        _save(out, facts)
    lines = [
        f"{path}: for its owner's eyes; all of this is counted on the records, and no guarantee covers it",
        "",
        *_lines(found, settings.data),
        "",
        "becomes public in a run:",
        *(f"  {fact}" for fact in public),
        "never becomes public:",
        *(f"  {fact}" for fact in NEVER_PUBLIC),
        "",
        "# a config to begin with: what it states becomes public, so correct it by what you may tell;",
        "# save it as my.yaml, then: dpsad account --config my.yaml",
        as_yaml(sections).rstrip(),
    ]
    return Found(text="\n".join(lines + ([f"# saved, private: {out}"] if out is not None else [])), facts=facts)


def public_facts(config: Config, found: Survey) -> list[str]:
    """What a release, or its statement, tells of the data, and which key states it."""
    data, num = config.data, config.privacy.num_records
    size = f"{data.image_size}x{data.image_size}" if data.image_size else "that of the images (data.image_size)"
    stated_colour = "grey" if data.grey else "colour" if data.colour else None
    names = data.class_names or found.class_names
    return [
        f"names of classes, in this order (data.class_names): {', '.join(names)}",
        f"image size: {size}",
        f"grey or colour: {stated_colour or 'as the images are (data.grey, data.colour)'}",
        f"number of training records: {num} (privacy.num_records)" if num else
        f"number of training records: all {found.num('train')}, unless privacy.num_records states another number",
        "settings that the release needs to be sampled, and what its privacy.json says of the budget",
    ]  # fmt: skip


def located(path: Path, overrides: Sequence[str]) -> list[str]:
    """Overrides that say where the data is, and of which source, unless that is said already."""
    source = next((text.partition("=")[2] for text in overrides if text.startswith("data.source=")), None)
    if source is not None:
        return [f"data.{'root' if source == 'torchvision' else 'path'}={path}"]
    known = recognised(path)
    return [f"data.source={known.source}", f"data.path={known.path}", f"data.labels={known.labels}"]


def _lines(found: Survey, data: DataConfig) -> Iterator[str]:
    train, test = found.num("train"), found.num("test")
    labels = f", data.labels={data.labels}" if data.source == "folder" else ""
    yield f"source   data.source={data.source}{labels}"
    yield f"images   {train + test}: train {train}, test {test}"
    yield f"classes  {len(found.class_names)}"
    width = max((len(name) for name in found.class_names), default=0)
    for name in found.class_names:
        counts = [found.counts[side][name] for side in ("train", "test")]
        lacking = "" if all(counts) else "  <- a side without images: add some, or state data.class_names"
        yield f"  {name.ljust(width)}  train {counts[0]}, test {counts[1]}{lacking}"
    yield "sizes    " + _some([f"{width}x{height} ({num})" for width, height, num in found.sizes])
    yield f"colour   {found.in_colour} of {train + test} images have any"
    yield "formats  " + _some([f"{name} ({num})" for name, num in found.formats])
    if found.transparent:
        yield f"  {found.transparent} with transparency, which is laid over white"
    if found.animated:
        yield f"  {found.animated} with several frames or pages, of which the first is read"
    for note in found.report.notes:
        yield f"  {note}"
    yield "not read" + ("" if found.report.skipped else " nothing was skipped")
    for reason, num in found.report.skipped:
        yield f"  {num} {reason}"
    for name in found.unreadable:
        yield f"    {name}"
    yield "copies"
    yield from _copies("equal", found.equal)
    yield from _copies("likely the same", found.near)


def _copies(kind: str, copies: Copies) -> Iterator[str]:
    if not copies.groups:
        yield f"  {kind}: none"
        return
    yield (
        f"  {kind}: {copies.images} images in {copies.groups} groups, of which {copies.across_sides} are in train and "
        f"test, {copies.across_classes} in several classes"
    )
    for names in copies.examples:
        yield f"    {' = '.join(names)}"


def _some(texts: Sequence[str]) -> str:
    more = f", and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return ", ".join(texts[:SHOWN]) + more


def _save(out: Path, told: dict) -> None:
    """Writes a file that its owner alone can read."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            os.chmod(out, 0o600)
            file.write(json.dumps(told, indent=2, ensure_ascii=False) + "\n")
    except OSError as error:
        raise ValueError(f"--out {out} cannot be written ({error}); pass another file") from error
