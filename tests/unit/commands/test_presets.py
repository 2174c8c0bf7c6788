import re

import pytest

from dpsad.api.config import Config
from dpsad.methods.registry import DP_SAD
from dpsad.runtime.config_files import PRESETS, load_config

FILES = sorted(PRESETS.glob("*.yaml"))


def test_every_named_data_set_has_a_preset_for_cpus_and_for_a_gpu():
    names = {path.stem for path in FILES}
    for name in ("digits", "mnist", "fashion-mnist", "cifar10"):
        assert {name, f"{name}-gpu"} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_preset_loads_and_its_first_line_runs_it(path):
    config = load_config(Config, base=path, overrides=())
    command = path.read_text(encoding="utf-8").splitlines()[0]
    assert command.startswith("# dpsad ")
    if path.stem != "digits":
        assert f"--config {path.stem} " in command
        assert re.search(rf"run={re.escape(config.run)}( |$)", command)
    assert config.run == f"runs/{path.stem}"
    assert config.privacy.num_records > 0, "account must work before a record is read"
    assert config.privacy.delta < 1 / config.privacy.num_records
    assert config.method != DP_SAD.name or config.sampler.steps <= 8
