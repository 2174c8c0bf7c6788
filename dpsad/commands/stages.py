"""A check that the commands of dp-sad's stages share."""

from dpsad.api.config import Config
from dpsad.methods.registry import DP_SAD


def require_dp_sad(config: Config) -> None:
    """Refuses to run a stage of dp-sad in the run of a baseline."""
    if config.method != DP_SAD.name:
        raise ValueError(
            f"method={config.method} is trained by `dpsad baseline run={config.run}`; pass method={DP_SAD.name} and "
            "another run=... to distil"
        )
