"""DataConfig: which images to read, and the form they take."""

from __future__ import annotations

from dataclasses import dataclass

from dpsad.privacy.ranges import CountOrZero, require_ranges


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which records to read and the form they take. The keys are those after `data.` on the command line.

    source: digits (embedded, 8x8), torchvision (`name`, `root`), folder (`path`), npz (`path`), or memory: images
        that a program brought, which no command can read again.
    name: of a torchvision set, such as MNIST or fashion-mnist.
    root: the folder torchvision keeps its sets in.
    path: an image folder, or an .npz file.
    download: lets torchvision fetch what is missing under `root`.
    image_size: side in pixels of the square to resize to, with antialiasing; 0 keeps the size.
    grey: turns colour to luminance.
    num_classes: 0 takes it from the source; a source that disagrees is refused.
    limit: reads at most that many records of a split, classes in turn; 0 reads all. For trying out: with a limit,
        adding a record may displace another.
    pseudo_labels: clusters to find among the records and to take for classes, also where they have labels; 0 goes by
        their labels. Folders without class folders, and .npz files without labels, need it.
    """

    source: str = "digits"
    name: str = ""
    root: str | None = None
    path: str | None = None
    download: bool = False
    image_size: CountOrZero = 0
    grey: bool = False
    num_classes: CountOrZero = 0
    limit: CountOrZero = 0
    pseudo_labels: CountOrZero = 0

    def __post_init__(self) -> None:
        require_ranges(self, "data")
