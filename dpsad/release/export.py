"""Release folder: all of a run that is safe to share, and how to use it without the run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save

from dpsad.errors import require_file
from dpsad.release.model_card import model_card
from dpsad.release.statement_file import WEIGHTS_HASH, hash_of, require_own_statement
from dpsad.release.students import Releasable, ReleaseConfig
from dpsad.release.weights_file import load_weights
from dpsad.runtime.config_files import load_config, save_config
from dpsad.runtime.finite import require_finite
from dpsad.runtime.run_folder import CONFIG, MODEL_CARD, SAMPLES, STATEMENT, WEIGHTS, Run
from dpsad.runtime.whole_files import read_whole_folder, whole_folder
from students.base import Student
from students.sampling import generate, labels_to_sample, sample_grid

SAMPLES_PER_CLASS = 10

T = TypeVar("T")


def export_release(release: Path, made: Releasable, statement: dict) -> None:
    """Writes a release folder, whole or not at all, which whoever may enter the run folder can read.

    Whoever reads it meanwhile finds the old one or the new one, see `read_release`.

    Args:
        release: the folder; replaced if it is there.
        made: what is released.
        statement: becomes privacy.json, with the hash of the weights that it is of.

    Raises:
        ValueError: the student has weights that are not finite, or makes images that are not. Nothing was written.

    Formal guarantee: the folder holds the student's weights, samples of it and public numbers; it is as private as
    `statement` says, and reads nothing else.
    """
    require_finite("the student", made.model, "nothing was released; train another with a lower learning rate")
    student = made.student()
    num_classes = len(student.class_names)
    samples = generate(student, labels_to_sample(student, SAMPLES_PER_CLASS * num_classes), seed=0)
    weights = {name: tensor.contiguous().cpu() for name, tensor in made.model.state_dict().items()}
    with whole_folder(release) as draft:
        (draft / WEIGHTS).write_bytes(save(weights))  # by our own hand: safetensors' hides that a disk is full
        save_config(made.config, draft / CONFIG)
        statement = {**statement, WEIGHTS_HASH: hash_of(draft / WEIGHTS)}
        (draft / STATEMENT).write_text(json.dumps(statement, indent=2) + "\n", encoding="utf-8")
        sample_grid(samples, columns=num_classes).save(draft / SAMPLES)
        (draft / MODEL_CARD).write_text(model_card(made.config, statement), encoding="utf-8")
        for file in draft.iterdir():  # some writers make files for their owner alone, and so does a umask
            file.chmod(0o644)
        draft.chmod(0o755)


def release_folder(folder: str | Path) -> Path:
    """The release folder, or the one that a run folder holds."""
    inside = Run(Path(folder)).release
    return inside if inside.is_dir() else Path(folder)


def read_release(folder: str | Path, read: Callable[[Path], T]) -> T:
    """What `read` makes of a release folder, or of the one that a run folder holds; see `read_whole_folder`."""
    return read_whole_folder(release_folder(folder), read)


def load_student(folder: str | Path, *, device: torch.device | str = "cpu") -> Student:
    """Loads a released student; arguments and errors are those of `load_releasable`."""
    return load_releasable(folder, device=device).student()


def load_releasable(folder: str | Path, *, device: torch.device | str = "cpu") -> Releasable:
    """Loads a released model, and how to make images with it.

    Args:
        folder: a release folder, or the run folder that holds it.

    Raises:
        ValueError: there is no release, a part of it is missing or damaged or of another release, or its weights are
            not finite.
    """
    made = read_release(folder, _load)
    made.model.to(torch.device(device))
    return made


def _load(folder: Path) -> Releasable:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).exists():
            raise ValueError(
                f"{folder} is no release: it has no {name}; pass a run folder after `dpsad distill` or baseline"
            )
    require_file(folder / CONFIG)
    try:
        config = load_config(ReleaseConfig, base=folder / CONFIG, overrides=())
    except ValueError as error:
        said = str(error)
        raise error if str(folder) in said else ValueError(f"{folder / CONFIG}: {said}") from None
    made = Releasable(load_weights(folder / WEIGHTS, config), config)
    require_finite(f"the student in {folder}", made.model, "train another with a lower learning rate")
    require_own_statement(folder)
    return made
