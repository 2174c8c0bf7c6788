"""What `dpsad sketch` does."""

from dpsad.api.config import Config
from dpsad.api.launch import opened
from dpsad.commands.stages import require_dp_sad
from dpsad.methods.dp_sad.prototype_release import released_prototypes
from dpsad.runtime.log import Say
from dpsad.runtime.ranks import ALONE, Ranks


def run_sketch(config: Config, say: Say, ranks: Ranks = ALONE) -> None:
    """Releases the run's prototypes, unless they are there."""
    require_dp_sad(config)
    with opened(config, say, ranks=ranks) as context:
        released_prototypes(config.settings(), context)
