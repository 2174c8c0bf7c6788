import re

import pytest

from dpsad.api.config import Config
from dpsad.commands.read import read_config
from dpsad.methods.registry import DP_SAD
from dpsad.runtime.config_files import find_config, flatten, load_config, read_mapping, save_config
from dpsad.runtime.presets import PRESETS

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


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_value_of_a_preset_has_a_line_and_a_comment(path):
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    for line in lines:
        assert re.fullmatch(r"( {2})?\w+: [^#{}]+  # \S.*|\w+:(  # \S.*)?", line), line


@pytest.mark.parametrize(
    "path", [path for path in FILES if "extends" in read_mapping(path)], ids=lambda path: path.stem
)
def test_a_variant_says_only_what_differs_from_its_base(path):
    own = dict(read_mapping(path))
    base = flatten(load_config(Config, base=find_config(own.pop("extends"), path.parent), overrides=()))
    said = {
        f"{name}.{key}" if key else name
        for name, section in own.items()
        for key in (section if isinstance(section, dict) else [""])
    }
    here = flatten(load_config(Config, base=path, overrides=()))
    assert said == {key for key in here if here[key] != base[key]}


def test_a_file_of_ones_own_extends_a_preset_in_old_names_as_well(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("extends: mnist\nrun: runs/mine\nsketch:\n  max_pull: 0.3\nrefine: {draws: 5}\n", encoding="utf-8")
    config, mnist = read_config(str(mine), ["refine.steps=7"]), read_config("mnist", [])
    changed = {key for key, value in flatten(config).items() if value != flatten(mnist)[key]}
    assert changed == {"run", "prototypes.clip_rms", "refine.noise_multiplicity", "refine.steps"}
    assert (config.prototypes.clip_rms, config.refine.noise_multiplicity, config.refine.steps) == (0.3, 5, 7)


def test_a_saved_run_is_whole_by_itself(tmp_path):
    config = read_config("mnist-epsilon1", [f"run={tmp_path}"])
    save_config(config, tmp_path / "config.yaml")
    assert "extends" not in read_mapping(tmp_path / "config.yaml")
    assert read_config(None, [f"run={tmp_path}"]) == config
