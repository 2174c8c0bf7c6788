"""Samples of each class, cut from the picture that every release has."""

from __future__ import annotations

from PIL import Image

from dpsad.report.groups import Group
from dpsad.report.reading import Result
from dpsad.runtime.run_folder import SAMPLES

MOST_IMAGES = 4  # of a class and run
MOST_CLASSES = 20
LARGEST_SIDE = 64  # of an image, in pixels; larger ones are made smaller


def class_strips(result: Result) -> dict[str, list[Image.Image]]:
    """The images of release/samples.png by class name, at their own size.

    Raises:
        ValueError: there is no such picture, or it is not laid out with one class a column.
    """
    path = result.run.release / SAMPLES
    try:
        with Image.open(path) as file:
            picture = file.convert("L" if result.image_shape[0] == 1 else "RGB")
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be shown: {error}") from None
    _, height, width = result.image_shape
    columns = len(result.class_names)
    factor = picture.width // (columns * (width + 2))
    rows = picture.height // ((height + 2) * max(factor, 1))
    if (columns * (width + 2) * factor, rows * (height + 2) * factor) != picture.size or not rows:
        raise ValueError(f"{path} cannot be shown: {picture.width}x{picture.height} does not fit {columns} classes")
    grid = picture.resize((picture.width // factor, picture.height // factor), Image.Resampling.NEAREST)

    def cell(row: int, column: int) -> Image.Image:
        left, top = column * (width + 2) + 1, row * (height + 2) + 1
        return grid.crop((left, top, left + width, top + height))

    return {name: [cell(row, column) for row in range(rows)] for column, name in enumerate(result.class_names)}


def bands(group: Group, budget: int) -> tuple[dict[str, dict[str, Image.Image]], list[str]]:
    """For each run that has samples, one picture a class: a few images below one another.

    Args:
        budget: bytes of pixels that all of them may have; to keep it, fewer images and classes are shown.

    Returns:
        Run name -> class name -> picture, and a line for each run or class that is not shown.
    """
    strips, complaints = {}, []
    for result in group.results:
        try:
            strips[result.name] = class_strips(result)
        except ValueError as error:
            complaints.append(f"{result.name}: {error}")
    names = list(dict.fromkeys(name for by_class in strips.values() for name in by_class))
    num_images = budget // (max(1, len(strips)) * max((_size(result) for result in group.results), default=1))
    shown = names[: max(1, min(MOST_CLASSES, num_images))]
    num = max(1, min(MOST_IMAGES, num_images // max(1, len(shown))))
    if len(shown) < len(names):
        complaints.append(f"{len(shown)} of {len(names)} classes are shown")
    stacked = {
        run: {name: _stack(by_class[name][:num]) for name in shown if name in by_class}
        for run, by_class in strips.items()
    }
    return stacked, complaints


def _size(result: Result) -> int:
    """Bytes of one image as it is shown."""
    chan, height, width = result.image_shape
    return chan * (min(height, LARGEST_SIDE) + 1) * min(width, LARGEST_SIDE)


def _stack(images: list[Image.Image]) -> Image.Image:
    """Images below one another, a grey line between them."""
    shrunk = [image.copy() for image in images]
    for image in shrunk:
        image.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
    width, height = shrunk[0].size
    stack = Image.new(shrunk[0].mode, (width, (height + 1) * len(shrunk) - 1), "grey")
    for place, image in enumerate(shrunk):
        stack.paste(image, (0, place * (height + 1)))
    return stack
