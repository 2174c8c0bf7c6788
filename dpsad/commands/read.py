"""Reads the config of a command."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from dpsad.api.config import Config
from dpsad.runtime.config_files import find_config, load_config
from dpsad.runtime.run_folder import Run

OLD_PRESETS = {"mnist-published": "mnist-nominal"}


def read_config(name: str | None, overrides: Sequence[str]) -> Config:
    """What `name` names, else what the run folder already has, else the defaults; then `key=value` on top.

    Names that are out of date are noted on the terminal.
    """
    run = next((text.removeprefix("run=") for text in overrides if text.startswith("run=")), None)
    saved = Run(Path(os.path.expanduser(run))).config if run else None
    name = OLD_PRESETS.get(name, name) if name else None
    base = find_config(name) if name else saved if saved is not None and saved.exists() else None

    def note(line: str) -> None:
        print(line, file=sys.stderr)

    return load_config(Config, base=base, overrides=overrides, note=note)
