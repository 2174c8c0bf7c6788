"""What every command does that fits a denoiser to records: plan, charge, train, and say what it has cost."""

from dpsad import build, build_rows
from dpsad.commands.sketch import Say
from dpsad.config import Config
from dpsad.data.records import ImageSet
from dpsad.diffusion.denoiser import Denoiser
from dpsad.diffusion.noise_levels import Levels
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.checkpoint import Checkpoint
from dpsad.runtime.run_folder import Log, Run
from dpsad.training.dp_sgd import Vary, unvaried
from dpsad.training.private_denoiser import BaselineConfig, RefineConfig, fit_denoiser


def fit_to_records(
    config: Config,
    run: Run,
    stage: str,
    settings: RefineConfig | BaselineConfig,
    *,
    purpose: str,
    denoiser: Denoiser,
    levels: Levels,
    label_dropout: float,
    records: ImageSet,
    ledger: Ledger,
    randomness: PrivateRandomness,
    say: Say,
    vary: Vary = unvaried,
) -> Denoiser:
    """Spends what the ledger has left on gradient rows of a denoiser, or goes on where it stopped.

    Args:
        stage: the section of the config; names log and checkpoint as well.
        purpose: names the releases in the ledger.
        denoiser: provenance released or public; those of its parameters that require gradients train.
        label_dropout: probability that a record trains without its label.
        vary: random views of records, one a draw.

    Returns:
        The averaged denoiser.
    """
    num_records = build.num_records_of(config, records)
    plan = build_rows.gradient_plan(stage, settings, config.privacy, num_records, ledger.entries)
    log = Log(run, stage, config.log)
    with log.timed(build.hardware_of(randomness.device)) as seconds:
        fitted = fit_denoiser(
            stage,
            settings,
            denoiser=denoiser,
            levels=levels,
            label_dropout=label_dropout,
            records=records,
            sanitizer=Sanitizer(plan, ledger, purpose, randomness),
            expected_batch_size=plan.sampling_prob * num_records,
            randomness=randomness,
            checkpoint=Checkpoint(run.private / f"{stage}.checkpoint", every_seconds=0),
            log=log,
            vary=vary,
            precision=config.precision,
        )
    say(
        f"{stage}: {plan.num_releases} steps of {settings.batch_size} records, noise multiplier "
        f"{plan.noise_multiplier:.3f}, in {seconds():.0f} s; epsilon {ledger.spent():.3f}"
    )
    return fitted
