"""What settings, the data's sizes and the file system tell before the first charge: a table of checks.

Each refuses what would otherwise stop a run after a part of its budget was spent. They see the records' classes, shape
and number, which the run uses as public numbers anyway, and no pixel.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch

from dpsad.api.config import Config
from dpsad.api.plan import budget_plan
from dpsad.data.records import ImageSet, Subject
from dpsad.errors import require_memory
from dpsad.methods.method import Rehearsal
from dpsad.release.students import ReleaseConfig
from dpsad.runtime.config_files import load_config, save_config
from dpsad.runtime.device import memory_of
from dpsad.runtime.log import Log
from dpsad.runtime.run_folder import CONFIG, METRICS, Run
from students.sampling import even_labels, generate

COPIES = 20  # of the weights in all files: checkpoints hold averages and two moments, each beside its draft
SPARE = 10_000_000  # bytes for pictures, logs and texts


@dataclass(frozen=True, kw_only=True)
class Prospect:
    """What is about to be trained.

    run: where; a candidate of `dpsad tune` has the folder of the whole.
    subject, num_records: of the records, the number as it is stated, else as there are.
    has_spent: whether a part of the budget is spent, whose plan stands.
    """

    config: Config
    run: Run
    device: torch.device
    subject: Subject
    num_records: int
    has_spent: bool

    @cached_property
    def rehearsal(self) -> Rehearsal:
        with torch.random.fork_rng(devices=[]):
            return self.config.trained_by().rehearse(self.config.settings(), self.subject, self.num_records)


def prospect_of(
    config: Config, records: ImageSet, device: torch.device, run: Run, *, has_spent: bool = False
) -> Prospect:
    """What a config is about to do with records in a run's folder."""
    return Prospect(
        config=config,
        run=run,
        device=device,
        subject=Subject.of(records),
        num_records=config.privacy.num_records or len(records),
        has_spent=has_spent,
    )


def require_feasible(prospect: Prospect) -> None:
    """Refuses a run that could not be brought to its end.

    Raises:
        ValueError: the first of `CHECKS` that does not hold: the thing, its value and the mend.
    """
    for check in CHECKS:
        check(prospect)


def _a_logger_is_there(prospect: Prospect) -> None:
    Log(prospect.run, "", prospect.config.log)


def _files_can_be_written(prospect: Prospect) -> None:
    """What lies where the run will write is of the right kind, and may be replaced."""
    run = prospect.run
    folders = {run.private, run.release}
    files = [run.path / METRICS, run.private / METRICS, *run.private.glob("*.pt"), *run.private.glob("*.checkpoint")]
    for path in (*folders, *files):
        if path.exists() and path.is_dir() != (path in folders):
            kind = "a file where a folder" if path in folders else "a folder where a file"
            raise ValueError(f"{path} is {kind} is to be written; move it away, or pass another run=...")
    if run.release.is_dir() and any(run.release.iterdir()) and not run.statement.exists():
        raise ValueError(f"{run.release} holds something that is no release; move it away, or pass another run=...")
    for path in (run.path, *folders, run.path / METRICS, run.private / METRICS):
        if path.exists() and not os.access(path, os.W_OK):
            raise ValueError(f"{path} may not be written to; change its permissions, or pass another run=...")


def _the_budget_can_be_planned(prospect: Prospect) -> None:
    """Batches are no larger than the records are many, and there is noise for every release."""
    if not prospect.has_spent:
        budget_plan(prospect.config, prospect.num_records)


def _class_names_can_be_written(prospect: Prospect) -> None:
    """A release's files hold the names of the classes as they are."""
    release = prospect.rehearsal.made.config
    if not _comes_back(release):
        wrong = [name for name in release.class_names if not _comes_back(replace(release, class_names=(name,)))]
        raise ValueError(
            f"no file of a release can hold a class called {wrong[0]!r}, whose letters are no UTF-8 or no YAML; rename "
            "the folder or the label, and in data.class_names where it stands there"
        )


def _comes_back(release: ReleaseConfig) -> bool:
    """Whether a config is the same once it was written and read."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / CONFIG
        try:
            save_config(release, file)
            return load_config(ReleaseConfig, base=file, overrides=()) == release
        except ValueError:
            return False


def _an_image_can_be_made(prospect: Prospect) -> None:
    """An untrained student makes one, in two steps at most: network, sampler, decoder and guide take such images."""
    made = prospect.rehearsal.made
    sampler = replace(made.config.sampler, steps=min(2, made.config.sampler.steps))
    student = replace(made, config=replace(made.config, sampler=sampler)).student()
    with torch.random.fork_rng(devices=[]):
        generate(student, even_labels(1, len(student.class_names)), seed=0)


def _memory_holds_it(prospect: Prospect) -> None:
    for held in prospect.rehearsal.held:
        require_memory(held.num_bytes, held.what, held.mend, there=memory_of(prospect.device))


def _the_disk_holds_it(prospect: Prospect) -> None:
    """What the run writes at most, less what is there already."""
    run, rehearsal = prospect.run, prospect.rehearsal
    weights = sum(tensor.nbytes for tensor in rehearsal.made.model.state_dict().values())
    there = sum(path.stat().st_size for path in run.private.glob("*") if path.is_file())
    needed = COPIES * weights + rehearsal.kept + SPARE - there
    free = shutil.disk_usage(run.path).free
    if needed > free:
        raise ValueError(
            f"run={run.path}: checkpoints and the release take up to {needed / 1e9:.2g} GB, and {free / 1e9:.2g} GB "
            "are free there; free some space, or pass another run=..."
        )


CHECKS: tuple[Callable[[Prospect], None], ...] = (
    _a_logger_is_there,
    _files_can_be_written,
    _class_names_can_be_written,
    _an_image_can_be_made,
    _memory_holds_it,
    _the_disk_holds_it,
    _the_budget_can_be_planned,  # last, since it takes seconds
)
