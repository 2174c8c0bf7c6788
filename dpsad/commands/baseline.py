"""What `dpsad baseline` does: open the run, let its method train on the records, export what it hands out."""

from pathlib import Path

from dpsad import build
from dpsad.commands.sketch import Say
from dpsad.config import FIXED, Config
from dpsad.methods.method import Opened
from dpsad.methods.registry import method_of
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.statement import formal_statement
from dpsad.release.export import export_release
from dpsad.runtime.run_folder import open_run


def run_baseline(config: Config, say: Say) -> None:
    """Trains the run's baseline on records, or goes on where it stopped, and exports the release."""
    method = method_of(config)
    begun = (Path(config.run) / "private" / f"{method.section}.checkpoint").exists()
    run = open_run(config.run, config, (*FIXED, method.section) if begun else FIXED)
    if (run.release / "privacy.json").exists():
        say(f"baseline: {run.release} is there already")
        return
    ledger = Ledger(config.privacy.epsilon, config.privacy.delta)
    randomness = PrivateRandomness(build.device_of(config), seed=config.privacy.noise_seed)
    made = method.train(Opened(config, run, ledger, randomness, say))
    public_size = config.privacy.num_records == 0
    statement = formal_statement(ledger, guarantee=config.guarantee, size_is_public=public_size)
    export_release(run.release, made, {**statement, "method": config.method})
    say(f"release: {run.release}")
