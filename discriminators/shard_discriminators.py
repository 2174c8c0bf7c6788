"""One discriminator for each shard: tells its own teacher's answers from the student's outputs."""

import torch
from torch import Tensor

from discriminators.losses import discriminator_loss, non_saturating_loss
from dpsad.networks.stacked import Stacked
from dpsad.privacy.provenance import Provenance


class ShardDiscriminators:
    """Discriminators that are trained side by side, each on its shard's teacher alone, and say where outputs should go.

    Args:
        discriminators: one for each shard, stacked.
        weight: lambda, of the discriminator's gradient beside the teacher's pull.
        steps: gradient steps of each discriminator on each batch of answers.
        learning_rate: of these steps.
    """

    provenance = Provenance.PRIVATE

    def __init__(self, discriminators: Stacked, *, weight: float, steps: int = 4, learning_rate: float = 0.05):
        self.discriminators, self.weight, self.steps, self.learning_rate = discriminators, weight, steps, learning_rate

    def pulls(self, shards: Tensor, answers: Tensor, outputs: Tensor, sigma: Tensor, labels: Tensor) -> Tensor:
        """Trains the discriminators of some shards on a batch, and asks them for the student's direction.

        The pull is the negative gradient of the adversarial loss at an output, brought to the norm of the teacher's
        pull on it and weighted by lambda, so that lambda means the same at every size of image and discriminator.

        Args:
            shards: [units] whose discriminators.
            answers: [units, batch, chan, height, width] of their teachers; NaN where one has nothing to say.
            outputs: [batch, chan, height, width] of the student, for the same inputs.
            sigma, labels: [batch] noise levels and classes of these inputs.

        Returns:
            [units, batch, chan, height, width]; zero where there is no answer. Each shard's part is a function of its
            own answers and earlier ones.
        """
        units = len(shards)
        outputs = outputs.expand(answers.shape)
        answered = answers.flatten(2).isfinite().all(2)[:, :, None, None, None]
        real = torch.where(answered, answers, outputs).flatten(0, 1)
        fake = outputs.flatten(0, 1).clone()
        sigma, labels = sigma.repeat(units), labels.repeat(units)
        optimizer = torch.optim.SGD(self.discriminators.parameters(), lr=self.learning_rate)
        for _ in range(self.steps):
            # a sum over shards: each one's discriminator gets its own gradient, whatever the others' are
            loss = units * discriminator_loss(
                self.discriminators(real, sigma, labels, chosen=shards),
                self.discriminators(fake, sigma, labels, chosen=shards),
            )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        fake.requires_grad_()
        loss = non_saturating_loss(self.discriminators(fake, sigma, labels, chosen=shards)).sum()
        (gradient,) = torch.autograd.grad(loss, fake)
        gradient = gradient.reshape(answers.shape)
        size = (real.reshape(answers.shape) - outputs).flatten(2).norm(dim=2)
        norm = gradient.flatten(2).norm(dim=2).clamp(min=1e-12)
        return -self.weight * (size / norm)[..., None, None, None] * gradient
