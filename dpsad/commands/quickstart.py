"""What `dpsad quickstart` does."""

from collections.abc import Sequence

from dpsad.commands.chain import run_chain
from dpsad.commands.read import read_config
from dpsad.commands.reporting import Found
from dpsad.runtime.log import Say


def run_quickstart(overrides: Sequence[str], say: Say) -> Found:
    """Teaches, distils, samples and evaluates on the embedded digits; returns what to look at."""
    named = any(text.startswith("run=") for text in overrides)
    config = read_config("digits", overrides if named else ["run=runs/quickstart", *overrides])
    return run_chain(config, num=2000, say=say)
