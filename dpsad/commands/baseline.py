"""What `dpsad baseline` does."""

from dpsad.api.config import Config
from dpsad.api.launch import opened, release
from dpsad.methods.registry import DP_SAD, METHODS
from dpsad.runtime.log import Say
from dpsad.runtime.ranks import ALONE, Ranks

BASELINES = [method for name, method in METHODS.items() if name != DP_SAD.name]


def run_baseline(config: Config, say: Say, ranks: Ranks = ALONE) -> None:
    """Trains the run's baseline on records, or goes on where it stopped, and exports the release."""
    if config.method == DP_SAD.name:
        names = " or ".join(method.name for method in BASELINES)
        raise ValueError(f"method={config.method} is no baseline; pass method={names}")
    with opened(config, say, ranks=ranks) as context:
        release(config, context, config.trained_by().train)


def about_baselines() -> str:
    """What each is and costs, a paragraph each."""
    return "\n\n".join(f"method={method.name}: {method.about}" for method in BASELINES)
