"""Many networks of one shape side by side, evaluated and trained in one vectorised pass."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap


class Stacked(nn.Module):
    """Networks whose weights lie in one tensor a layer, [num_networks, ...].

    No number of one network enters another: each part of the batch passes its own weights alone, and so do gradients.

    Args:
        networks: of one shape; their weights are copied.
    """

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.num_networks = len(networks)
        # in a tuple, so that it is no submodule: only its structure is used
        self._shape = (copy.deepcopy(networks[0]).to("meta"),)
        parameters, buffers = stack_module_state(list(networks))
        for name, parameter in parameters.items():
            self.register_parameter(_flat(name), nn.Parameter(parameter.detach()))
        for name, buffer in buffers.items():
            self.register_buffer(_flat(name), buffer, persistent=False)

    def forward(self, *inputs: Tensor, chosen: Tensor | None = None) -> Tensor:
        """Runs each network on its own part of the batch.

        Args:
            inputs: each [networks * batch, ...], the first network's part first.
            chosen: [networks] which networks; None takes all.

        Returns:
            [networks * batch, ...].
        """
        return self.run(self.weights(chosen), *inputs)

    def weights(self, chosen: Tensor | None = None) -> dict[str, Tensor]:
        """Weights of some networks by name, [networks, ...] each."""
        shape = self._shape[0]
        named = {name: getattr(self, _flat(name)) for name, _ in (*shape.named_parameters(), *shape.named_buffers())}
        return named if chosen is None else {name: weight[chosen] for name, weight in named.items()}

    def run(self, weights: dict[str, Tensor], *inputs: Tensor) -> Tensor:
        """As `forward`, with weights that are given: [networks, ...] each."""
        num = len(next(iter(weights.values())))

        def one(own: dict[str, Tensor], *parts: Tensor) -> Tensor:
            return functional_call(self._shape[0], own, parts)

        return vmap(one)(weights, *(tensor.unflatten(0, (num, -1)) for tensor in inputs)).flatten(0, 1)

    @torch.no_grad()
    def put(self, chosen: Tensor, weights: dict[str, Tensor]) -> None:
        """Gives some networks new weights, by name; the others keep theirs."""
        for name, weight in weights.items():
            getattr(self, _flat(name))[chosen] = weight


def _flat(name: str) -> str:
    """torch allows no dots in a parameter's own name."""
    return name.replace(".", "/")
