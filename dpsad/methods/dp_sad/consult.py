"""Consulting stage: the student asks shards' teachers, coarse to fine in noise level, on its own samples."""

import math

import torch

from dpsad.methods.dp_sad.prototypes import NamedPlan, Pulls, moved
from dpsad.methods.dp_sad.shard_teachers import ShardsConfig
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from students.base import Answers, Proposal
from students.prototypes import Prototypes


def consult(
    config: ShardsConfig,
    *,
    count_share: float,
    pulls: Pulls,
    plan: NamedPlan,
    start: Prototypes,
    ledger: Ledger,
    randomness: PrivateRandomness,
    generator: torch.Generator,
) -> tuple[Prototypes, Answers]:
    """Moves samples through falling noise levels by what shards' teachers answer together.

    The samples start as released prototypes with noise. At each level the shards' mean answer is the student's clean
    image, and what is left of the noise is taken on to the next level: the deterministic sampler of a diffusion model,
    with an ensemble behind the sanitizer as the model.

    Args:
        count_share: of the rows that `pulls` gives.
        pulls: gives each shard's row for what is proposed.
        plan: one release a level.
        start: released prototypes; `config.queries` images of each class are drawn from them.
        ledger: is charged before the first question.
        randomness: secret; the privacy noise.
        generator: public; which prototypes, and the noise on them.

    Returns:
        The samples after the last level, and everything that was asked with the released answers.

    Formal guarantee: post-processing of `start` and of the releases in `plan`, one row a shard in each.

    Source: Song et al. 2021, equation 12 with eta = 0, for the step between levels.
    """
    images = start.images
    num_classes, size = int(start.labels.max()) + 1, images[0].numel()
    labels = torch.arange(num_classes, device=images.device).repeat_interleave(config.queries)
    uniform = torch.rand(len(labels), generator=generator, device=images.device)
    outputs = start.images[start.choose(labels, uniform)]
    x = outputs + config.levels[0] * torch.randn(outputs.shape, generator=generator, device=images.device)
    bound = config.max_pull * math.sqrt(size)
    min_count = config.num_shards * config.sampling_prob / 2  # nearly all shards that are asked have an answer
    purpose, releases = plan
    sanitizer = Sanitizer(releases, ledger, purpose, randomness)
    asked = []
    for level, next_level in zip(config.levels, [*config.levels[1:], 0.0], strict=True):
        proposal = Proposal(x, torch.full((len(x),), level, device=x.device), labels, outputs)
        released = sanitizer.release(pulls(proposal, bound), (len(x), size + 1))
        noise = releases.noise_multiplier * releases.max_norm
        outputs, counts = moved(outputs, released, noise, bound, count_share, min_count)
        asked.append(Answers(x, proposal.sigma, labels, outputs))
        x = outputs + next_level / level * (x - outputs)
    # shards answer every question, so counts say nothing of how common a sample is
    return Prototypes(outputs, labels, torch.ones_like(counts), min_count=0.0), Answers.join(asked)
