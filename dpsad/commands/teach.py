"""What `dpsad teach` does."""

from dpsad.api.config import Config
from dpsad.api.launch import opened
from dpsad.commands.stages import require_dp_sad
from dpsad.methods.dp_sad import method
from dpsad.runtime.log import Say
from dpsad.runtime.ranks import ALONE, Ranks


def run_teach(config: Config, say: Say, ranks: Ranks = ALONE) -> None:
    """Trains the run's teacher, or goes on where it stopped; the prototypes come first where it learns from them."""
    require_dp_sad(config)
    with opened(config, say, ranks=ranks) as context:
        method.teach(config.settings(), context)
