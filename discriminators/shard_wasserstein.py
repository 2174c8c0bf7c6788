"""Wasserstein critics of shards, each trained on that shard's own records against a released generator."""

import torch
from torch import Tensor

from dpsad.networks.stacked import Stacked
from dpsad.privacy.provenance import Provenance


class ShardWassersteinCritics:
    """Critics that are trained side by side, each on its own records, and say how images should change.

    Args:
        critics: a `WassersteinCritic` for each shard, stacked.
        penalty: weight of the gradient penalty.
        learning_rate: of Adam, which starts afresh at every visit, so that a critic is its weights.

    Source: Gulrajani et al. 2017, Algorithm 1; Chen et al. 2020, Algorithm 1.
    """

    provenance = Provenance.PRIVATE

    def __init__(self, critics: Stacked, *, penalty: float = 10.0, learning_rate: float = 1e-3):
        self.critics, self.penalty, self.learning_rate = critics, penalty, learning_rate

    def train(self, shards: Tensor, real: Tensor, fake: Tensor, labels: Tensor, mixing: Tensor) -> None:
        """Takes gradient steps with the critics of some shards.

        Args:
            shards: [units] whose critics.
            real: [steps, units, batch, chan, height, width] of each shard's own records.
            fake: like real, of the generator, of the same classes.
            labels: [steps, units, batch].
            mixing: [steps, units, batch] in (0, 1), where between fake and real the penalty looks.

        Formal guarantee: each critic becomes a function of its weights before and of its own shard's part; the critics
        of other shards stay as they are.
        """
        weights = {name: weight.detach().clone() for name, weight in self.critics.weights(shards).items()}
        optimizer = torch.optim.Adam(
            [weight.requires_grad_() for weight in weights.values()], lr=self.learning_rate, betas=(0.5, 0.9)
        )
        for step in range(len(real)):
            loss = self._loss(weights, real[step], fake[step], labels[step], mixing[step])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        self.critics.put(shards, weights)

    def directions(self, shards: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """The gradient of each critic's loss for a generator, -D, at images: downhill is towards the shard's records.

        Args:
            shards: [units] whose critics.
            images: [batch, chan, height, width] of the generator.
            labels: [batch].

        Returns:
            [units, batch, chan, height, width]. Each shard's part is a function of its critic and the images.
        """
        units = len(shards)
        weights = {name: weight.detach() for name, weight in self.critics.weights(shards).items()}
        repeated = images.detach().repeat(units, 1, 1, 1).requires_grad_()
        loss = -self.critics.run(weights, repeated, labels.repeat(units)).sum()
        (gradient,) = torch.autograd.grad(loss, repeated)
        return gradient.unflatten(0, (units, -1))

    def _loss(self, weights: dict[str, Tensor], real: Tensor, fake: Tensor, labels: Tensor, mixing: Tensor) -> Tensor:
        """A sum over shards of means over images, so that each critic gets its own gradient."""
        batch = real.shape[1]
        mix = (fake + mixing[..., None, None, None] * (real - fake)).flatten(0, 1).requires_grad_()
        labels = labels.flatten()
        (slope,) = torch.autograd.grad(self.critics.run(weights, mix, labels).sum(), mix, create_graph=True)
        excess = (slope.flatten(1).norm(dim=1) - 1).square()
        gap = self.critics.run(weights, fake.flatten(0, 1), labels) - self.critics.run(
            weights, real.flatten(0, 1), labels
        )
        return (gap + self.penalty * excess).sum() / batch
