"""Shards' teachers: who answers for a shard, and how the student asks them, coarse to fine, on its own samples."""

import math
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch

from discriminators.convolutional import ConvolutionalDiscriminator
from discriminators.shard_discriminators import ShardDiscriminators
from dpsad.data.records import ImageSet, Subject
from dpsad.data.shards import Shards
from dpsad.diffusion.denoiser import Denoiser
from dpsad.errors import require_choice
from dpsad.methods.dp_sad.prototypes import Rows, moved
from dpsad.methods.dp_sad.queries import Answers, Proposal
from dpsad.methods.dp_sad.teacher import TeacherConfig
from dpsad.networks.config import NetworkConfig
from dpsad.networks.network import new_network
from dpsad.networks.stacked import Stacked
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.ranges import Count, Positive, Share, ShareOrAll, Weight, require_ranges
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.privacy.together import Together
from dpsad.runtime.context import Context
from dpsad.training.batches import batches_of_shards
from dpsad.training.denoiser import train_denoiser
from dpsad.training.private_denoiser import lognormal_of
from students.prototypes import Prototypes
from teachers.base import Teacher
from teachers.closed_form import ClosedFormTeachers
from teachers.shard_denoisers import ShardDenoisers

TEACHERS = ("none", "closed_form", "denoisers")


@dataclass(frozen=True, kw_only=True)
class ShardsConfig:
    """How shards of the records answer the student.

    num_shards: K, how many disjoint shards.
    sampling_prob: of each shard in each round, independently; 1 asks all shards every time.
    relative_clip_norm: bound on a shard's row, in units of its typical size: the root of the number of rows that it is
        made of.
    teacher: what each shard has beside its records, which move prototypes into place together: closed_form (the
        posterior mean over them), denoisers (a small network trained on them), or none.
    teacher_share: of the prototypes' budget (of mu^2), for asking teachers.
    queries: samples of each class that teachers are asked about.
    levels: falling noise levels at which they are asked, once each.
    clip_rms: bound on one answer's distance from the student's output, as root mean square over pixels.
    adversarial_weight: lambda of each shard's own discriminator; 0 leaves discriminators out.
    discriminator_channels: width of these discriminators.
    network, steps, batch_size: of each shard's denoiser.
    """

    RENAMED_KEYS: ClassVar[dict[str, str]] = {
        "max_norm": "relative_clip_norm", "max_pull": "clip_rms", "critic_channels": "discriminator_channels",
    }  # fmt: skip

    num_shards: Count = 2000
    sampling_prob: ShareOrAll = 1.0
    relative_clip_norm: Positive = 1.0
    teacher: str = "closed_form"
    teacher_share: Share = 0.5
    queries: Count = 16
    levels: tuple[Positive, ...] = (1.0, 0.6, 0.3)
    clip_rms: Positive = 0.36
    adversarial_weight: Weight = 0.0
    discriminator_channels: Count = 8
    network: NetworkConfig = field(default_factory=lambda: NetworkConfig(channels=16, patch=2))
    steps: Count = 500
    batch_size: Count = 16

    def __post_init__(self) -> None:
        require_ranges(self, "shards")
        require_choice("shards.teacher", self.teacher, TEACHERS)
        if not self.levels or list(self.levels) != sorted(self.levels, reverse=True):
            raise ValueError(f"shards.levels={list(self.levels)} must be falling noise levels: teachers denoise")


def shard_teachers(
    config: ShardsConfig, teacher: TeacherConfig, context: Context, records: ImageSet, shards: Shards
) -> Teacher:
    """One teacher for each shard: trained side by side, or without training in closed form.

    Args:
        teacher: how denoisers are trained, but for their steps and batches.
        records, shards: on the run's device.
    """
    if config.teacher == "closed_form":
        return ClosedFormTeachers(records.images, records.labels, shards)
    taught = train_denoiser(
        "teach shards",
        replace(teacher, steps=config.steps, batch_size=config.num_shards * config.batch_size),
        denoiser=Denoiser(new_shard_networks(config, Subject.of(records), context)),
        num_classes=records.num_classes,
        batches=batches_of_shards(records, shards, config.batch_size),
        levels=lognormal_of(teacher),
        rng=context.rng("teach shards"),
        checkpoint=context.checkpoint(
            "shards", config, teacher, records.fingerprint(), shards.fingerprint(), unnamed=False
        ),
        log=context.log("teach shards"),
        learning_rate_key=None,  # a shard's teacher that fails has no answer, and nobody may see that it did
        precision=context.precision,
    )
    assert isinstance(taught.network, Stacked)
    return ShardDenoisers(taught.network)


def new_shard_networks(config: ShardsConfig, subject: Subject, context: Context) -> Stacked:
    """One small network for each shard, all with the same first weights."""
    with context.first_weights("shards"):
        network = new_network(config.network, image_channels=subject.image_shape[0], num_classes=subject.num_classes)
    return Stacked([network] * config.num_shards).to(context.device)


def new_shard_discriminators(config: ShardsConfig, subject: Subject, context: Context) -> ShardDiscriminators | None:
    """One small discriminator for each shard, all with the same first weights; None where their weight is 0."""
    if config.adversarial_weight == 0:
        return None
    with context.first_weights("shard critics"):  # the name is part of the seed
        discriminator = ConvolutionalDiscriminator(
            config.discriminator_channels,
            image_channels=subject.image_shape[0],
            num_classes=subject.num_classes,
        )
    stacked = Stacked([discriminator] * config.num_shards).to(context.device)
    return ShardDiscriminators(stacked, weight=config.adversarial_weight)


def ask_teachers(
    config: ShardsConfig,
    *,
    count_share: float,
    rows: Rows,
    plan: ReleasePlan,
    start: Prototypes,
    ledger: Ledger,
    randomness: PrivateRandomness,
    rng: torch.Generator,
    together: Together | None = None,
) -> tuple[Prototypes, Answers]:
    """Moves samples through falling noise levels by what shards' teachers answer together.

    The samples start as released prototypes with noise. At each level the shards' mean answer is the student's clean
    image, and what is left of the noise is taken on to the next level: the deterministic sampler of a diffusion model,
    with an ensemble behind the sanitizer as the model.

    Args:
        count_share: of the rows that `rows` gives.
        rows: gives each shard's row for what is proposed.
        plan: one release a level.
        start: released prototypes; `config.queries` images of each class are drawn from them.
        ledger: is charged before the first question.
        randomness: secret; the privacy noise.
        rng: public; which prototypes, and the noise on them.
        together: processes that ask together, `rows` being those of each one's own shards.

    Returns:
        The samples after the last level, and everything that was asked with the released answers.

    Formal guarantee: post-processing of `start` and of the releases in `plan`, one row a shard in each.

    Source: Song et al. 2021, equation 12 with eta = 0, for the step between levels.
    """
    images = start.images
    num_classes, size = int(start.labels.max()) + 1, images[0].numel()
    labels = torch.arange(num_classes, device=images.device).repeat_interleave(config.queries)
    uniform = torch.rand(len(labels), generator=rng, device=images.device)
    outputs = start.images[start.choose(labels, uniform)]
    x = outputs + config.levels[0] * torch.randn(outputs.shape, generator=rng, device=images.device)
    bound = config.clip_rms * math.sqrt(size)
    min_count = config.num_shards * config.sampling_prob / 2  # nearly all shards that are asked have an answer
    sanitizer = Sanitizer(plan, ledger, randomness, together)
    asked = []
    for level, next_level in zip(config.levels, [*config.levels[1:], 0.0], strict=True):
        proposal = Proposal(x, torch.full((len(x),), level, device=x.device), labels, outputs)
        released = sanitizer.release(rows(proposal, bound), (len(x), size + 1))
        outputs, counts = moved(outputs, released, plan.noise_scale, bound, count_share, min_count)
        asked.append(Answers(x, proposal.sigma, labels, outputs))
        x = outputs + next_level / level * (x - outputs)
    # shards answer every question, so counts say nothing of how common a sample is
    return Prototypes(outputs, labels, torch.ones_like(counts), min_count=0.0), Answers.join(asked)
