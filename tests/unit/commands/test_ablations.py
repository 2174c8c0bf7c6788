import pytest

from dpsad.api.config import Config
from dpsad.commands.ablations import ABLATIONS
from dpsad.runtime.config_files import differences, flatten, load_config
from dpsad.runtime.presets import PRESETS

BASE = PRESETS / "mnist-nominal.yaml"
KEYS = flatten(Config()).keys()


@pytest.mark.parametrize("name", ABLATIONS)
def test_cells_are_configs_that_differ_from_each_other(name):
    cells = ABLATIONS[name].cells
    if name == "shards" and "shards.num_shards" not in KEYS:
        with pytest.raises(ValueError, match=r"unknown key 'shards\.num_shards'"):
            load_config(Config, base=BASE, overrides=next(iter(cells.values())))
        return
    configs = [load_config(Config, base=BASE, overrides=changes) for changes in cells.values()]
    for index, config in enumerate(configs):
        assert all(differences(config, other) for other in configs[:index])


@pytest.mark.parametrize("name", sorted(ABLATIONS.keys() - {"shards"}))
def test_one_cell_is_the_preset_itself(name):
    """So that an ablation says how far the preset is from the best."""
    base = load_config(Config, base=BASE, overrides=())
    cells = ABLATIONS[name].cells.values()
    assert any(not differences(base, load_config(Config, base=BASE, overrides=changes)) for changes in cells)
