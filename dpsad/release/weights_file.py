"""Weights of a release: read into a model of its config, once both are known to fit."""

import math
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from dpsad.errors import reading, require_file
from dpsad.release.students import KINDS, ReleaseConfig, new_model


def load_weights(path: Path, config: ReleaseConfig) -> nn.Module:
    """A model of the config with the weights of a file.

    What the config says is held against the shapes that stand at the file's beginning, before any memory is taken: a
    file cannot say that it has more than it is long, and so a config of any size is refused by arithmetic.

    Raises:
        ValueError: it is no file of weights, a damaged one, or one of another model.
    """
    require_file(path)
    with reading(path), safe_open(path, framework="pt") as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118 (no mapping)
    wrong = _misfit(shapes, config)
    if wrong:
        raise ValueError(f"{path} holds weights of another model than config.yaml beside it says: {wrong}")
    with reading(path):
        model = new_model(config)
        model.load_state_dict(load_file(path))
    return model


def _misfit(shapes: dict[str, tuple[int, ...]], config: ReleaseConfig) -> str | None:
    """What the config says and the shapes do not, if anything; features of a guide are as large as its directions."""
    num_weights = sum(map(math.prod, shapes.values()))
    if max(config.guide_directions, default=0) > num_weights:
        return f"guide_directions={list(config.guide_directions)}, and the file has {num_weights:,} weights"
    prefix = "model." if config.guide_features else ""
    try:
        with torch.device("meta"):  # shapes alone
            model = KINDS[config.kind].new_model(config)
    except (RuntimeError, ValueError, TypeError, OverflowError) as error:
        return f"no model can be so large, or of such parts ({error})"
    wanted = {prefix + name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    for name in (wanted | shapes) if not prefix else wanted:
        if wanted.get(name) != shapes.get(name):
            said, held = ("nothing" if shape is None else list(shape) for shape in (wanted.get(name), shapes.get(name)))
            return f"{name} should be {said}, and the file has {held}"
    return None
