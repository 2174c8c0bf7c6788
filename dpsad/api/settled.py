"""What of a run's config is settled: what a stage went by that has begun, and what its releases were planned by."""

from collections.abc import Iterator
from dataclasses import fields

from dpsad.api.config import Config
from dpsad.methods.method import Stage
from dpsad.runtime.config_files import differences, load_config
from dpsad.runtime.run_folder import Run

ALWAYS = ("guarantee", "method", "seed")  # of whatever has begun
TUNE = "tune"  # a stage of any method: all that its repetitions are told


def settled(run: Run) -> tuple[str, ...]:
    """Keys and sections that must not change any more in a run's folder; none where nothing was begun.

    A run that is released, or tuned, has gone by all that its method is told.
    """
    there = _config_of(run)
    if there is None:
        return ()
    if run.statement.exists() or run.checkpoint(TUNE).exists():
        return (
            *ALWAYS,
            "precision",
            *(section.name for section in fields(there.trained_by().settings)),
            "data",
            "privacy",
        )
    keys = [key for stage in _begun(run, there) for key in stage.keys]
    return tuple(dict.fromkeys((*ALWAYS, *keys))) if keys else ()


def require_as_planned(run: Run, config: Config) -> None:
    """Refuses a config by which the noise of what the run has released would have been planned otherwise.

    Raises:
        ValueError: says which keys, what they are there, and what was planned by them.
    """
    there = _config_of(run)
    if there is None:
        return
    here = {stage.name: stage.planned for stage in config.trained_by().stages(config.settings())}
    for stage in _begun(run, there):
        keys = [key for key, taken in stage.planned.items() if here[stage.name][key] != taken]
        if keys:
            raise ValueError(
                f"{run.path} has released its {stage.name} with noise that was planned by these keys "
                f"({'; '.join(differences(there, config, keys))}); give them the values they have there, or pass "
                "another run=..."
            )


def _config_of(run: Run) -> Config | None:
    return load_config(Config, base=run.config, overrides=()) if run.config.exists() else None


def _begun(run: Run, config: Config) -> Iterator[Stage]:
    for stage in config.trained_by().stages(config.settings()):
        if any((run.private / file).exists() for file in stage.files):
            yield stage
