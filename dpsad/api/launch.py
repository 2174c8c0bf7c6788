"""Opens a run from its config and lets its method train: the one place where the two meet."""

import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields, replace
from functools import cache, partial
from pathlib import Path

import torch

from dpsad.api.beforehand import prospect_of, require_feasible
from dpsad.api.config import Config
from dpsad.api.plan import budget_plan
from dpsad.api.settled import require_own
from dpsad.api.spending import cost_beside, runs_beside
from dpsad.data.config import DataConfig
from dpsad.data.records import ImageSet
from dpsad.data.sources import load_images
from dpsad.methods.method import Trained
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.statement import LIMITED
from dpsad.release.export import export_release
from dpsad.runtime.config_files import fingerprint
from dpsad.runtime.context import Context
from dpsad.runtime.copied_run import Files, copied_run, files_to_copy
from dpsad.runtime.device import arithmetic, device_named, hardware_of
from dpsad.runtime.log import Say
from dpsad.runtime.ranks import ALONE, Ranks
from dpsad.runtime.run_folder import Run, open_run, require_run_folder
from dpsad.runtime.run_lock import held
from dpsad.runtime.untouched import first_missing, untouched_if_refused
from dpsad.runtime.whole_files import remove_temporaries

Load = Callable[[], ImageSet]
DATA_KEY = re.compile(rf"(?<![^\s(])data\.(?=(?:{'|'.join(field.name for field in fields(DataConfig))})\b)")


@contextmanager
def opened(
    config: Config,
    say: Say,
    *,
    load_records: Load | None = None,
    load_public: Load | None = None,
    ranks: Ranks = ALONE,
) -> Iterator[Context]:
    """Opens the run's folder, for this process alone, and leaves it as it was where all that happens inside is a
    refusal.

    Args:
        say: shows a line.
        load_records, load_public: read the private records and the public images; None reads what `data` and
            `public_data` name.
        ranks: those that train together, and open it together: rank 0 the folder, the others a copy each.

    Raises:
        ValueError: the folder holds another run, or another process writes in it; or several ranks have other settings
            or other records, or the method is trained by one.
    """
    device = ranks.device(device_named(config.device))
    _require_shared(config, ranks)
    ledger = Ledger.of(config.privacy)
    if config.data.limit:  # here as well, for runs whose files were written before a limit was noted with the records
        ledger.note((LIMITED,))
    with _folder(config, ranks) as (run, has_spent), arithmetic(device, config.precision):

        def feasible() -> ImageSet:
            records = (load_records or partial(load_images, config.data, "train"))()
            ranks.require_same("the records", records.fingerprint())
            if not ranks.leads:
                return records
            prospect = prospect_of(config, records, device, run, has_spent=has_spent)
            require_feasible(prospect)
            if not has_spent and (others := runs_beside(run, records.fingerprint())):
                planned = budget_plan(config, prospect.num_records) if config.teacher.path is None else None
                say(cost_beside(others, planned, config.privacy))
            return records

        yield Context(
            run=run,
            device=device,
            precision=config.precision,
            seed=config.seed,
            ledger=ledger,
            randomness=PrivateRandomness(
                device, seed=config.privacy.noise_seed, place=_place(run, device, config.precision, ranks)
            ),
            stated_num_records=config.privacy.num_records,
            load_records=cache(feasible),  # stages read in turn
            load_public=cache(load_public or partial(load_public_images, config.public_data)),
            log_config=config.log,
            say=say,
            ranks=ranks,
        )


@contextmanager
def _folder(config: Config, ranks: Ranks) -> Iterator[tuple[Run, bool]]:
    """The run's folder, and whether a part of its budget is spent; a copy of it in ranks that do not lead."""
    if not ranks.leads:
        unseen: tuple[Files, bool] = ({}, False)  # rank 0 says what there is
        files, has_spent = ranks.from_first(lambda: unseen)
        with copied_run(files, config) as copy:
            yield copy, has_spent
        return
    run = Run(Path(config.run))
    missing = first_missing(run)
    require_run_folder(run)
    with held(run), untouched_if_refused(run, missing):
        has_spent = require_own(run, config)
        open_run(run.path, config)
        for folder in (run.path, run.private):
            remove_temporaries(folder)
        if not ranks.alone:
            ranks.from_first(lambda: (files_to_copy(run), has_spent))
        yield run, has_spent


def _require_shared(config: Config, ranks: Ranks) -> None:
    """Refuses what several processes cannot train together."""
    if ranks.alone:
        return
    method = config.trained_by()
    if config.guarantee not in method.shared:
        raise ValueError(
            f"method={method.name} with guarantee={config.guarantee} is trained by one process, and torchrun started "
            f"{ranks.size}; run the same command without torchrun"
        )
    ranks.require_same("the settings", fingerprint(config))


def _place(run: Run, device: torch.device, precision: str, ranks: Ranks) -> str:
    """Where a run's secret numbers are the same again: in the very folder, on the same machine, where sums are too.

    Of several ranks all count, since each of them makes a part of the sums.
    """
    folder, hardware = run.private.stat(), hardware_of(device)
    place = f"{platform.node()} {folder.st_dev} {folder.st_ino} {hardware} {precision} torch {torch.__version__}"
    if ranks.alone:
        return place
    return " and ".join([place, *ranks.gathered(f"{platform.node()} {hardware} torch {torch.__version__}")])


def load_public_images(public: DataConfig) -> ImageSet:
    """The images of `public_data`, on the word of whoever named them.

    Raises:
        ValueError: as `load_images`, by keys of `public_data`.
    """
    try:
        images = load_images(public, "train")
    except ValueError as error:  # sources know their keys by those of `data`
        raise ValueError(DATA_KEY.sub("public_data.", str(error))) from None
    return replace(images, provenance=Provenance.PUBLIC)


def release(config: Config, context: Context, train: Callable[..., Trained]) -> None:
    """Trains by `train`, unless there is a release already, and exports what it hands out."""
    if context.run.statement.exists():
        context.say(f"{config.method}: {context.run.release} is there already")
        return
    trained = train(config.settings(), context)
    if not context.ranks.leads:
        return
    export_release(context.run.release, trained.made, {**trained.statement, "method": config.method})
    context.say(f"release: {context.run.release}")
