"""DataConfig: which images to read, and the form they take."""

from __future__ import annotations

from dataclasses import dataclass

from dpsad.errors import require_choice
from dpsad.privacy.ranges import CountOrZero, ShareOrAll, require_ranges

LABELS = ("folder", "parent", "csv")
RANGES = ("auto", "bytes", "unit", "signed")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which records to read and the form they take. The keys are those after `data.` on the command line.

    source: digits (embedded, 8x8), torchvision (`name`, `root`), folder (`path`), npz (`path`), parquet (`path`),
        webdataset (`path`), huggingface (`path`), or memory: images that a program brought, which no command can read
        again.
    name: of a torchvision set, such as MNIST or fashion-mnist.
    root: the folder torchvision keeps its sets in.
    path: an image folder; an .npz file; Parquet files or WebDataset tars, one or a folder of them; a folder that
        Hugging Face's save_to_disk wrote.
    labels: what names the class of a file in a folder: folder (the topmost one), parent (the one that holds it), or csv
        (a .csv or .jsonl file with paths and labels).
    image_column, label_column: of a table or a .csv file, or keys of JSON; empty takes the usual names.
    download: lets torchvision fetch what is missing under `root`.
    image_size: side in pixels of the square to resize to, with antialiasing; 0 keeps the size, which a folder takes
        from its first image.
    grey, colour: turns colour to luminance, or grey to equal red, green and blue. Where neither is asked for, a folder
        is in colour if any of its images is.
    range: of the pixels in an .npz file, and of floats in TIFF files: bytes (0 to 255), unit (0 to 1) or signed (-1 to
        1); values outside are cut. auto takes integers by their type, and floats in .npz for signed if any is negative,
        else for unit.
    first_label: the smallest label in an .npz file, of the first class. Where no classes are stated, it is the smallest
        that is found.
    num_classes: 0 takes it from the source; a source that disagrees is refused.
    class_names: the classes of a folder, a table or an .npz file, by label; records of others are left out. Empty takes
        them from the data.
    share: keeps each record with this probability, by a hash of its id: the same ones each time, whoever else is there.
    limit: reads at most that many records of a split, classes in turn; 0 reads all. For trying out: a record added may
        displace another, so nothing that is trained with a limit is formal.
    pseudo_labels: clusters to find among the records and to take for classes, also where they have labels; 0 goes by
        their labels. Folders without class folders, and .npz files without labels, need it.
    """

    source: str = "digits"
    name: str = ""
    root: str | None = None
    path: str | None = None
    labels: str = "folder"
    image_column: str = ""
    label_column: str = ""
    download: bool = False
    image_size: CountOrZero = 0
    grey: bool = False
    colour: bool = False
    range: str = "auto"
    first_label: CountOrZero = 0
    num_classes: CountOrZero = 0
    class_names: tuple[str, ...] = ()
    share: ShareOrAll = 1.0
    limit: CountOrZero = 0
    pseudo_labels: CountOrZero = 0

    def __post_init__(self) -> None:
        require_ranges(self, "data")
        require_choice("data.range", self.range, RANGES)
        require_choice("data.labels", self.labels, LABELS)
        if self.grey and self.colour:
            raise ValueError("data.grey=true and data.colour=true contradict each other; leave one out")
        names = self.class_names
        if len(set(names)) < len(names) or (names and self.num_classes not in (0, len(names))):
            raise ValueError(
                f"data.class_names names {len(set(names))} different classes in {len(names)} places, and "
                f"data.num_classes={self.num_classes}; name each class once, and leave data.num_classes out"
            )
