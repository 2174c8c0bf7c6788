"""Where the packaged configs lie; loads nothing, so that they can be listed at once."""

from pathlib import Path

PRESETS = Path(__file__).parent.parent / "configs"
