"""Refuses models in which one example's gradient depends on another example."""

from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.instancenorm import _InstanceNorm

_MEND = "use GroupNorm, e.g. model = opacus.validators.ModuleValidator.fix(model)"
# Opacus refuses these because its hooks do not know them, not because they mix examples
_WITHOUT_OPACUS_HOOKS = (nn.LSTM, nn.GRU, nn.MultiheadAttention)


def require_no_mixing(model: nn.Module) -> None:
    """Refuses layers that mix the examples of a batch, or write what they saw into the model past its releases.

    Args:
        model: in the mode, training or not, in which it will see private records.

    Raises:
        ValueError: names the layer: batch normalisation that uses the batch's statistics or is trainable, instance
            normalisation that tracks them, an embedding that renormalises rows it looks up, and what Opacus's validator
            refuses of trainable layers.

    Formal guarantee: none of the layers named above is left; per-example rows of such a layer bound nothing.
    Edge cases: frozen batch normalisation with public statistics, in evaluation mode, works example by example and
        passes. The code of a layer that neither torch nor Opacus wrote is not looked into.

    Source: Yousefpour et al. 2021, Opacus, through `opacus.validators`, which asks trainable layers alone.
    """
    for name, layer in model.named_modules():
        reason = _mixes(layer)
        if reason:
            raise ValueError(f"layer '{name}' ({type(layer).__name__}) {reason}")


def _mixes(layer: nn.Module) -> str:
    """How a layer mixes examples, and the mend; empty where it does not."""
    trainable = any(parameter.requires_grad for parameter in layer.parameters(recurse=False))
    # _NormBase is the parent of all batch normalisation, lazy and synchronised included, and of instance normalisation
    if isinstance(layer, _InstanceNorm):
        if layer.track_running_stats and layer.training:
            return "writes statistics of private records into the model; pass track_running_stats=False"
    elif isinstance(layer, _NormBase) and (layer.training or layer.running_mean is None):
        return f"mixes the examples of a batch; {_MEND}"
    if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and layer.max_norm is not None:
        return "rescales the rows that a batch looks up, which no release covers; drop max_norm"
    if trainable and not isinstance(layer, _WITHOUT_OPACUS_HOOKS):
        # Opacus takes a second or more to import
        from opacus.validators import ModuleValidator

        for error in ModuleValidator.VALIDATORS.get(type(layer), lambda layer: [])(layer):
            return f"is refused by Opacus: {str(error).split('. ')[0]}; {_MEND}"
    return ""
