"""What `dpsad teach` does."""

from dpsad.api.config import Config
from dpsad.api.launch import opened
from dpsad.commands.stages import require_dp_sad
from dpsad.methods.dp_sad import method
from dpsad.runtime.log import Say


def run_teach(config: Config, say: Say) -> None:
    """Trains the run's teacher, or goes on where it stopped; the prototypes come first where it learns from them."""
    require_dp_sad(config)
    with opened(config, say) as context:
        method.teach(config.settings(), context)
