"""Run folder: where everything in it lies, and which part of it may be shared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dpsad.runtime.config_files import save_config
from dpsad.runtime.whole_files import PRIVATE, is_temporary, temporary_of, write_whole

CONFIG, METRICS, STATEMENT = "config.yaml", "metrics.jsonl", "privacy.json"
WEIGHTS, SAMPLES, MODEL_CARD = "student.safetensors", "samples.png", "README.md"


@dataclass(frozen=True)
class Run:
    """A run folder, and where everything in it lies.

    private: teacher, checkpoints, diagnostics; never to be shared, readable by its owner only.
    release: all that is safe to share; made by the export.
    """

    path: Path

    @property
    def config(self) -> Path:
        return self.path / CONFIG

    @property
    def private(self) -> Path:
        return self.path / "private"

    @property
    def release(self) -> Path:
        return self.path / "release"

    @property
    def statement(self) -> Path:
        return self.release / STATEMENT

    @property
    def records(self) -> Path:
        return self.private / "records.fingerprint"

    @property
    def lock(self) -> Path:
        return self.private / "lock"

    @property
    def kept(self) -> set[Path]:
        """What its stages have left under private/."""
        found = set(self.private.iterdir()) if self.private.is_dir() else set()
        return {path for path in found - {self.records, self.lock} if not is_temporary(path)}

    @property
    def begun_with(self) -> str:
        """Fingerprint of the records that it was begun with; "" where it has noted none."""
        return self._noted_of_records[0]

    @property
    def begun_with_num(self) -> int | None:
        """The number of these; None where it has noted none, as in older runs."""
        number = self._noted_of_records[1]
        return int(number) if number.isdecimal() else None

    @property
    def _noted_of_records(self) -> tuple[str, str]:
        noted = self.records.read_text(encoding="utf-8").split() if self.records.exists() else []
        fingerprint, number = [*noted, "", ""][:2]
        return fingerprint, number

    def note_records(self, fingerprint: str, number: int) -> None:
        """Writes down which records it is begun with, and how many."""
        write_whole(self.records, f"{fingerprint}\n{number}\n", PRIVATE)

    @property
    def prototypes(self) -> Path:
        return self.private / "sketch.pt"

    @property
    def teacher(self) -> Path:
        return self.private / "teacher.pt"

    @property
    def clusters(self) -> Path:
        return self.private / "clusters.pt"

    @property
    def public_denoiser(self) -> Path:
        return self.private / "pretrained.pt"

    @property
    def public_autoencoder(self) -> Path:
        return self.private / "autoencoder.pt"

    @property
    def reference_classifier(self) -> Path:
        return self.private / "reference_classifier.safetensors"

    @property
    def evaluation(self) -> Path:
        return self.private / "evaluation.json"

    @property
    def memorisation(self) -> Path:
        return self.private / "memorisation.json"

    @property
    def audit(self) -> Path:
        return self.private / "audit.json"

    @property
    def report(self) -> Path:
        return self.private / "report"

    def checkpoint(self, stage: str) -> Path:
        return self.private / f"{stage}.checkpoint"


def open_run(path: str | Path, config: object) -> Run:
    """Makes a run folder, or takes up the one that is there, and writes `config.yaml`.

    Args:
        config: dataclass with everything the run was told.

    Raises:
        ValueError: the folder holds something that is no run.
    """
    run = Run(Path(path))
    require_run_folder(run)
    run.path.mkdir(parents=True, exist_ok=True)
    save_config(config, run.config)
    run.private.mkdir(mode=0o700, exist_ok=True)
    run.private.chmod(0o700)
    return run


def require_run_folder(run: Run) -> None:
    """Refuses a folder that holds something that is no run; changes nothing there."""
    if not run.config.exists() and run.path.exists() and not _is_empty(run):
        raise ValueError(f"{run.path} is neither empty nor a run folder: it has no config.yaml; pass another run=...")


def _is_empty(run: Run) -> bool:
    """Whether nothing is there but what `run_lock.held` makes, and a config that a killed process began to write."""
    begun = (run.private, run.lock, temporary_of(run.config))
    return run.path.is_dir() and all(path in begun for path in run.path.rglob("*"))
