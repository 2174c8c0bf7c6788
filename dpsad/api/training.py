"""dpsad.train and dpsad.plan: the same methods, checks and folders as the commands."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from numpy.typing import ArrayLike
from torch import Tensor

from dpsad.api.config import Config
from dpsad.api.launch import opened, release
from dpsad.api.plan import budget_plan, budget_table
from dpsad.api.student import Student
from dpsad.data.arrays import records_of
from dpsad.data.records import ImageSet
from dpsad.errors import require_choice
from dpsad.methods.registry import DP_SAD, METHODS
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.provenance import Provenance
from dpsad.runtime.config_files import find_config, load_config
from dpsad.runtime.run_folder import Run

Images = ArrayLike | Tensor | ImageSet
Settings = Mapping[str, object]


def train(
    images: Images,
    labels: ArrayLike | Tensor | None = None,
    *,
    method: str = DP_SAD.name,
    epsilon: float = 10.0,
    delta: float = 1e-5,
    guarantee: str | None = None,
    preset: str | Path | None = None,
    settings: Settings | None = None,
    public: Images | None = None,
    public_labels: ArrayLike | Tensor | None = None,
    run: str | Path | None = None,
    seed: int = 0,
    device: str = "auto",
    say: Callable[[str], object] = print,
) -> Student:
    """Trains a private image generator on images, and returns what may be shared of it.

    Args:
        images: the private records: arrays or tensors as `image_set_of` takes them, or an `ImageSet`.
        labels: [num] their classes; not beside an `ImageSet`.
        method: dp-sad, or a baseline: dpdm, dp-feta, feta-pro, dp-merf, dp-kernel, gs-wgan, dp-diffusion, dp-ldm,
            privimage, private-evolution, class-means.
        epsilon, delta: the budget of everything that is released, for one record added or removed, or for all of a
            person with {"privacy.records_per_person": ...} among the settings.
        guarantee: records, shards or nominal; None takes the method's own.
        preset: a packaged preset or YAML file to start from, such as "digits"; its data and budget are left aside.
        settings: further keys of the config, such as {"teacher.steps": 500}.
        public: public images, for methods that learn from some; likewise.
        public_labels: their classes.
        run: folder of the run, where the same call goes on if it was stopped; None takes a temporary one, which lives
            as long as the student.
        seed: of everything but privacy noise and batch sampling.
        device: auto, cpu, cuda, cuda:1, ...
        say: receives a line after each stage.

    Returns:
        The student, its statement under `student.privacy`.

    Raises:
        ValueError: what a command would refuse; the run's records are others than it was begun with.

    Formal guarantee: what `student.privacy` says, about the student and its release folder.
    """
    records = records_of(images, labels)
    publics = None if public is None else replace(records_of(public, public_labels), provenance=Provenance.PUBLIC)
    temporary = tempfile.TemporaryDirectory(prefix="dpsad-") if run is None else None
    folder = Path(temporary.name) / method if temporary else Path(run)  # type: ignore[arg-type]
    told = {**(settings or {}), "run": folder, "seed": seed, "device": device}
    config = _config(len(records), method, epsilon, delta, guarantee, preset, told)

    def load_public() -> ImageSet:
        if publics is None:
            raise ValueError(f"method={method} learns from public images; pass public=... and public_labels=...")
        return publics

    with opened(config, say, load_records=lambda: records, load_public=load_public) as context:
        context.require_same(records)
        release(config, context, config.trained_by().train)
    return Student.from_pretrained(Run(folder).release, device=context.device, keep=temporary)


@dataclass(frozen=True)
class Plan:
    """What a run will release, and what it will cost; printing it shows a table.

    releases: every one that a formal run makes, in order.
    epsilon: of all of them; 0 where nothing formal is released.
    """

    releases: tuple[ReleasePlan, ...]
    epsilon: float
    delta: float
    table: str

    def __str__(self) -> str:
        return self.table


def plan(
    num_records: int,
    *,
    method: str = DP_SAD.name,
    epsilon: float = 10.0,
    delta: float = 1e-5,
    guarantee: str | None = None,
    preset: str | Path | None = None,
    settings: Settings | None = None,
) -> Plan:
    """Plans every release of a run on so many records, before one is read. The arguments are those of `train`."""
    told = {**(settings or {}), "privacy.num_records": num_records}
    config = _config(num_records, method, epsilon, delta, guarantee, preset, told)
    releases = tuple(budget_plan(config, num_records))
    cost = Ledger.of(config.privacy).planned(releases).spent()
    return Plan(releases, cost, delta, str(budget_table(config)))


def _config(
    num_records: int,
    method: str,
    epsilon: float,
    delta: float,
    guarantee: str | None,
    preset: str | Path | None,
    told: Settings,
) -> Config:
    """The config of a call, as a command would have it."""
    require_choice("method", method, tuple(METHODS))
    fixed = {
        "method": method,
        "guarantee": guarantee or METHODS[method].guarantees[0],
        "data.source": "memory",
        "public_data.source": "memory",
        "privacy.epsilon": epsilon,
        "privacy.delta": delta,
        "privacy.num_records": 0,
    }
    base = find_config(preset) if preset is not None else None
    config = load_config(Config, base=base, overrides=_overrides({**fixed, **told}))
    return (
        config if base is not None else _with_batches_that_fit(config, config.privacy.num_records or num_records, told)
    )


def _with_batches_that_fit(config: Config, num_records: int, told: Settings) -> Config:
    """Expected batches of at most half of the records, where nobody said how large they are to be."""
    most = max(1, num_records // 2)
    smaller = {
        name: replace(section, batch_size=min(section.batch_size, most))
        for name, section in (("refine", config.refine), ("baseline", config.baseline))
        if f"{name}.batch_size" not in told
    }
    return replace(config, **smaller)  # type: ignore[arg-type]


def _overrides(told: Settings) -> list[str]:
    """Keys and values as the command line would have them."""
    return [f"{key}={_text(value)}" for key, value in told.items()]


def _text(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(_text, value))}]"
    return str(value)
