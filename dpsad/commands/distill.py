"""What `dpsad distill` does."""

from dpsad.api.config import Config
from dpsad.api.launch import opened, release
from dpsad.commands.stages import require_dp_sad
from dpsad.methods.dp_sad import method
from dpsad.runtime.log import Say
from dpsad.runtime.ranks import ALONE, Ranks


def run_distill(config: Config, say: Say, ranks: Ranks = ALONE) -> None:
    """Distils the run's student, refines it with records where planned, and exports the release."""
    require_dp_sad(config)
    with opened(config, say, ranks=ranks) as context:
        release(config, context, method.distill)
