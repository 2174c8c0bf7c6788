"""What the commands of stages share."""

from pathlib import Path

from dpsad.api.config import Config
from dpsad.commands.reporting import Found
from dpsad.methods.registry import DP_SAD
from dpsad.release.statement_file import read_statement
from dpsad.runtime.run_folder import Run


def require_dp_sad(config: Config) -> None:
    """Refuses to run a stage of dp-sad in the run of a baseline."""
    if config.method != DP_SAD.name:
        raise ValueError(
            f"method={config.method} is trained by `dpsad baseline run={config.run}`; pass method={DP_SAD.name} and "
            "another run=... to distil"
        )


def left_by_stage(config: Config) -> Found:
    """Where a run is after a stage: its folder, its release if there is one, and what that says of privacy."""
    run = Run(Path(config.run))
    released = run.statement.is_file()
    privacy = read_statement(run.statement) if released else None
    facts = {"run": run.path, "release": run.release if released else None, "privacy": privacy}
    return Found(text=f"release: {run.release}" if released else f"run: {run.path}", facts=facts, said=True)
