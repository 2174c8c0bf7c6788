"""dpsad.Student: a trained student with its privacy statement."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from dpsad.release.export import load_student, read_release
from dpsad.release.statement_file import read_statement
from dpsad.runtime.run_folder import STATEMENT
from students.base import Student as ImageMaker


@dataclass(frozen=True)
class PrivacyStatement:
    """What may be claimed of a student.

    guarantee: records, shards or nominal.
    formal: whether epsilon holds.
    epsilon: of all releases, for what `adjacency` in details names, one record mostly; None where nothing holds.
    nominal_epsilon: what the paper would account, where the guarantee is nominal.
    delta: beside epsilon.
    reasons: why it is not formal, if so.
    not_covered: what no epsilon speaks of.
    details: privacy.json as it stands, with every release.
    """

    guarantee: str
    formal: bool
    epsilon: float | None
    nominal_epsilon: float | None
    delta: float
    reasons: tuple[str, ...]
    not_covered: tuple[str, ...]
    details: dict[str, Any]

    @staticmethod
    def of(details: dict[str, Any]) -> "PrivacyStatement":
        return PrivacyStatement(
            guarantee=details["guarantee"],
            formal=details["formal"],
            epsilon=details["epsilon"],
            nominal_epsilon=details.get("nominal_epsilon"),
            delta=details["delta"],
            reasons=tuple(details["reasons"]),
            not_covered=tuple(details["not_covered"]),
            details=details,
        )


class Student:
    """Makes images of a class from seeds; all of it may be shared if `privacy` says so.

    Attributes:
        privacy: its statement.
        folder: the release that it was loaded from.
        run: the run folder that holds the release, with private parts; None where the release stands alone.
        image_shape, class_names, use_labels: of its images, see `students.base.Student`.
    """

    def __init__(self, maker: ImageMaker, privacy: PrivacyStatement, folder: Path, *, keep: object = None):
        self.maker, self.privacy, self.folder = maker, privacy, folder
        self.run = folder.parent if (folder.parent / "private").is_dir() else None
        self.image_shape, self.class_names = maker.image_shape, maker.class_names
        self.use_labels = maker.use_labels
        self._keep = keep  # such as the temporary folder that holds the release

    @staticmethod
    def from_pretrained(folder: str | Path, *, device: torch.device | str = "cpu", keep: object = None) -> "Student":
        """Loads a student from a release folder, or from the run folder that holds it.

        Args:
            keep: lives as long as the student does.

        Raises:
            ValueError: there is no release, or a part of it is missing.
        """

        def read(release: Path) -> Student:
            privacy = PrivacyStatement.of(read_statement(release / STATEMENT))
            return Student(load_student(release, device=device), privacy, release, keep=keep)

        return read_release(folder, read)

    def sample(
        self,
        labels: ArrayLike | Tensor,
        seeds: Sequence[int] | None = None,
        *,
        batch_size: int = 250,
        progress: Callable[[int], object] | None = None,
        guide: bool = True,
    ) -> Tensor:
        """Makes one image for each label, [num, chan, height, width] in [-1, 1].

        Args:
            labels: [num] classes; any number where the student heeds none.
            seeds: one per image; the same seed and label give the same image. None takes 0, 1, 2, ...
            batch_size, progress, guide: as for `students.base.Student.sample`.

        Raises:
            ValueError: labels out of range, or not as many seeds as labels.
        """
        wanted = torch.as_tensor(labels, dtype=torch.int64).reshape(-1)
        seeds = range(len(wanted)) if seeds is None else seeds
        if len(seeds) != len(wanted):
            raise ValueError(f"{len(seeds)} seeds for {len(wanted)} labels; give each image one, or leave seeds out")
        num_classes = len(self.class_names)
        if self.use_labels and len(wanted) and not 0 <= int(wanted.min()) <= int(wanted.max()) < num_classes:
            raise ValueError(
                f"labels must be in 0..{num_classes - 1}; this student knows {', '.join(self.class_names)}"
            )
        return self.maker.sample(wanted, seeds, batch_size=batch_size, progress=progress, guide=guide)

    def save(self, folder: str | Path) -> Path:
        """Copies the release, all that is safe to share, to a new folder, and returns it.

        Raises:
            ValueError: the folder is there already.
        """
        target = Path(folder)
        if target.exists():
            raise ValueError(f"{target} is there already; name a new folder")
        shutil.copytree(self.folder, target)
        return target

    def __repr__(self) -> str:
        claim = f"epsilon={self.privacy.epsilon:.4g}" if self.privacy.formal else "NOT formal"
        return f"Student({len(self.class_names)} classes of {list(self.image_shape)}, {claim}, {self.folder})"
