"""What of a run's config is settled: what a stage went by that has begun, and what its releases were planned by."""

from collections.abc import Iterator
from dataclasses import fields

from dpsad.api.config import Config
from dpsad.methods.method import Stage
from dpsad.runtime.config_files import differences, load_config
from dpsad.runtime.run_folder import Run

ALWAYS = ("guarantee", "method", "seed")  # of whatever has begun
WHOLE = ("precision", "data", "privacy")  # of whatever is released, beside what its method is told
TUNE = "tune"  # a stage of any method: all that its repetitions are told


def require_own(run: Run, config: Config) -> bool:
    """Refuses a config of another run than the folder holds; changes nothing there.

    Returns:
        Whether a part of the run's budget is spent.

    Raises:
        ValueError: a key that is settled has another value, or the noise of what was released would have been planned
            otherwise; says which keys, and what they are there.
    """
    there = _config_of(run)
    if there is None:
        return False
    keys = _settled(run, there)
    if changed := differences(there, config, keys):
        raise ValueError(
            f"{run.path} already holds another run ({'; '.join(changed)}); pass another run=..., or give these keys "
            "the values they have there"
        )
    here = {stage.name: stage.planned for stage in config.trained_by().stages(config.settings())}
    for stage in _begun(run, there):
        moved = [key for key, taken in stage.planned.items() if here[stage.name][key] != taken]
        if moved:
            raise ValueError(
                f"{run.path} has released its {stage.name} with noise that was planned by these keys "
                f"({'; '.join(differences(there, config, moved))}); give them the values they have there, or pass "
                "another run=..."
            )
    return "privacy" in keys


def _settled(run: Run, there: Config) -> tuple[str, ...]:
    """Keys and sections that must not change any more; none where nothing was begun.

    A run that is released, or tuned, has gone by all that its method is told.
    """
    if run.statement.exists() or run.checkpoint(TUNE).exists():
        return (*ALWAYS, *WHOLE, *(section.name for section in fields(there.trained_by().settings)))
    keys = [key for stage in _begun(run, there) for key in stage.keys]
    return (*ALWAYS, *keys) if keys else ()


def _config_of(run: Run) -> Config | None:
    return load_config(Config, base=run.config, overrides=()) if run.config.exists() else None


def _begun(run: Run, config: Config) -> Iterator[Stage]:
    for stage in config.trained_by().stages(config.settings()):
        if any((run.private / file).exists() for file in stage.files):
            yield stage
