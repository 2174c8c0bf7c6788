"""Private evolution: a model of public images proposes images, and records vote for those that are nearest to them.

No weight is ever trained on records. In each round every record gives one vote to the image of its class that is
nearest to it; what the noisy counts favour is drawn more often, and varied by the same public model: less from round to
round. The images of the last round are released with their votes, and sampled in proportion.

Source: Lin et al. 2024, "Differentially private synthetic data via foundation model APIs 1: images", Algorithms 1, 2.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from dpsad.data.augmentation import AugmentationConfig
from dpsad.data.records import ImageSet, Subject, require_own_labels
from dpsad.diffusion.denoiser import Denoiser
from dpsad.errors import require_choice
from dpsad.methods.dp_sad.prototype_rows import nearest_outputs
from dpsad.methods.dp_sgd_denoiser import BaselineConfig
from dpsad.methods.method import Held, Method, Rehearsal, Stage, Trained, formally
from dpsad.methods.public_denoiser import PRETRAIN, PretrainConfig, public_denoiser
from dpsad.networks.config import NetworkConfig
from dpsad.networks.features.scattering import Scattering
from dpsad.privacy.clipping import BlockRows
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.ranges import Count, CountOrZero, Positive, Weight, require_ranges
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.release.students import Releasable, ReleaseConfig
from dpsad.runtime.checkpoint import Checkpoint, progress
from dpsad.runtime.context import Context
from dpsad.training.batches import in_full_batches
from students.few_step import SamplerConfig, denoised
from students.prototypes import Prototypes
from students.varied_prototypes import HeldPrototypes

CHUNK = 2048  # records that vote at once
AT_ONCE = 250  # images whose features are worked out, or that pass the denoiser, together
FEATURES = ("pixels", "scattering")

Propose = Callable[[int], Tensor]  # how many -> as many random images [num, chan, height, width]
Vary = Callable[[Tensor, float], Tensor]  # images, noise level -> a variation of each
Embed = Callable[[Tensor], Tensor]  # images [num, chan, height, width] -> vectors [num, dim] in [-1, 1]


@dataclass(frozen=True, kw_only=True)
class PrivateEvolutionConfig:
    """How a population of images evolves by the votes of records.

    rounds: votes; images are varied between them.
    population: images of each class.
    features: where distances are taken: pixels, or scattering.
    threshold: that is taken off the votes before images are drawn by them, in standard deviations of their noise.
    lookahead: variations of each image whose mean stands for it in the vote; 0 takes the image itself.
    first_level, last_level: noise level that images are taken to, and denoised from, in the first and the last
        variation; those between are evenly apart in their logarithm.
    variation_steps: of DDIM, from that level down.
    """

    rounds: Count = 10
    population: Count = 300
    features: str = "pixels"
    threshold: Weight = 2.0
    lookahead: CountOrZero = 0
    first_level: Positive = 5.0
    last_level: Positive = 0.5
    variation_steps: Count = 6

    def __post_init__(self) -> None:
        require_ranges(self, "private_evolution")
        require_choice("private_evolution.features", self.features, FEATURES)
        if self.last_level > self.first_level:
            raise ValueError(
                f"private_evolution.last_level={self.last_level} must be at most "
                f"private_evolution.first_level={self.first_level}: variations become smaller"
            )

    def level(self, round_: int) -> float:
        """The noise level of variations before round `round_`, 1..rounds-1."""
        done = (round_ - 1) / max(1, self.rounds - 2)
        return self.first_level * (self.last_level / self.first_level) ** done


def vote_rows(records: ImageSet, candidates: Tensor, embed: Embed) -> Iterator[BlockRows]:
    """Each record's row: 1 in the place of the candidate of its class that is nearest to it.

    Args:
        candidates: [num_classes, num, dim] vectors of public or released images, in [-1, 1].
        embed: works image by image.

    Returns:
        Chunks of block rows, [records, 1], of norm 1; each is a function of one record: to the bit where `embed` is.
    """
    for images, labels in zip(records.images.split(CHUNK), records.labels.split(CHUNK), strict=True):
        vectors, labels = embed(images), labels.to(candidates.device)
        block = torch.zeros(len(labels), dtype=torch.int64, device=candidates.device)
        for label, own in enumerate(candidates):
            members = (labels == label).nonzero().flatten()
            block[members] = label * len(own) + nearest_outputs(vectors[members], own)
        yield BlockRows(torch.ones(len(labels), 1, device=candidates.device), block)


def votes_of(sums: Tensor, threshold: float, noise: float) -> Tensor:
    """[num] votes above the threshold, from the released sums of rows; what is not above zero counts as none.

    Args:
        sums: [num, 1].
        threshold: in standard deviations `noise` of the noise on `sums`.
    """
    return sums[:, 0] - threshold * noise


def private_evolution(
    config: PrivateEvolutionConfig,
    *,
    model: HeldPrototypes,
    propose: Propose,
    vary: Vary,
    embed: Embed,
    records: ImageSet,
    sanitizer: Sanitizer,
    rng: torch.Generator,
    checkpoint: Checkpoint,
) -> HeldPrototypes:
    """Lets a population evolve by the votes of records, and returns it with the last of them.

    Args:
        model: provenance public, equally many images of each class, class by class; is overwritten, on the device of
            `rng`.
        propose, vary: of public images; both draw from `rng`.
        embed: public; works image by image.
        records: the private records.
        sanitizer: holds a plan of `config.rounds` releases on all records, rows bounded by 1.
        rng: public; draws who survives, and what `propose` and `vary` need.
        checkpoint: tracks ledger and population in one file.

    Formal guarantee: all of it is post-processing of `sanitizer`'s releases, by a model that has seen no record.
    """
    require_own_labels(records)
    num_classes, num = records.num_classes, config.population
    checkpoint.track(model=model, stream=rng, sanitizer=sanitizer)
    sanitizer.charge()
    for round_ in progress(checkpoint, config.rounds, "private-evolution"):
        if round_ == 0:
            images = propose(num_classes * num)
        else:
            uniform = torch.rand(len(model.labels), generator=rng, device=rng.device)
            chosen = model.prototypes().choose(model.labels, uniform)
            images = vary(model.images[chosen], config.level(round_))
        candidates = embed(images)
        if config.lookahead:
            level = config.level(min(round_ + 1, max(1, config.rounds - 1)))
            candidates = torch.stack([embed(vary(images, level)) for _ in range(config.lookahead)]).mean(0)
        rows = vote_rows(records, candidates.unflatten(0, (num_classes, num)), embed)
        sums = sanitizer.release(rows, (num_classes * num, 1))
        votes = votes_of(sums.to(rng.device), config.threshold, sanitizer.plan.noise_scale)
        model.load_state_dict({**model.state_dict(), "images": images, "counts": votes})
    model.provenance = Provenance.RELEASED
    return model


def api_of(
    denoiser: Denoiser, subject: Subject, sampler: SamplerConfig, steps: int, rng: torch.Generator
) -> tuple[Propose, Vary]:
    """What a public denoiser offers: random images, and variations of images by noise and denoising, without labels.

    Args:
        subject: what the denoiser was trained on.
        sampler: makes random images.
        steps: of a variation.
    """
    shape, no_label = subject.image_shape, subject.num_classes

    def some(sampler: SamplerConfig, start: Tensor) -> Tensor:
        def normal(size: tuple[int, ...]) -> Tensor:
            return torch.randn(len(start), *size, generator=rng, device=rng.device)

        labels = torch.full((len(start),), no_label, device=rng.device)
        return denoised(denoiser, sampler, labels, normal, start, no_label=no_label)

    @torch.no_grad()
    def made(sampler: SamplerConfig, start: Tensor) -> Tensor:
        return torch.cat([some(sampler, part) for part in start.split(AT_ONCE)]).clamp(-1, 1)

    def propose(num: int) -> Tensor:
        return made(replace(sampler, guidance=0.0), torch.zeros(num, *shape, device=rng.device))

    def vary(images: Tensor, level: float) -> Tensor:
        lower = min(sampler.sigma_min, level / 2)
        short = SamplerConfig(method="ddim", steps=steps, sigma_min=lower, sigma_max=level)
        return made(short, images)

    return propose, vary


def embedding_of(features: str, image_shape: tuple[int, int, int], device: torch.device) -> Embed:
    """Images to vectors in [-1, 1] on the device, in batches of one size, since rounding depends on it."""
    network = Scattering(image_shape).to(device) if features == "scattering" else torch.nn.Flatten()

    @torch.no_grad()
    def embed(images: Tensor) -> Tensor:
        batches = in_full_batches(AT_ONCE, images)
        return torch.cat([network(batch.to(device))[:num] for num, (batch,) in batches])

    return embed


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What private evolution is told."""

    private_evolution: PrivateEvolutionConfig = field(default_factory=PrivateEvolutionConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    baseline: BaselineConfig = field(default_factory=BaselineConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)

    def __post_init__(self) -> None:
        if self.pretrain.label_dropout == 0:
            raise ValueError(
                "pretrain.label_dropout=0 teaches the public model no images without a label, which all of its images "
                "are here; pass up to 1"
            )


def plans(settings: Settings, budget: Ledger, num_records: int) -> list[ReleasePlan]:
    """A vote of each record a round, on the whole budget; the number of records does not matter."""
    rounds = settings.private_evolution.rounds
    plan = ReleasePlan(
        purpose="private-evolution, votes for images", unit=Unit.RECORD, clip_norm=1.0, num_releases=rounds
    )
    return [budget.calibrate(plan)]


def nothing_yet(settings: Settings, subject: Subject) -> HeldPrototypes:
    """Grey images, as many of each class as will be released."""
    num = settings.private_evolution.population
    labels = torch.arange(subject.num_classes).repeat_interleave(num)
    images = torch.zeros(len(labels), *subject.image_shape)
    return HeldPrototypes(Prototypes(images, labels, torch.zeros(len(labels)), 0.0, Provenance.PUBLIC))


def release_config(settings: Settings, subject: Subject) -> ReleaseConfig:
    """What a release says of the population."""
    return ReleaseConfig(
        kind="images",
        image_shape=subject.image_shape,
        class_names=subject.class_names,
        num_prototypes=subject.num_classes * settings.private_evolution.population,
        augmentation=settings.augmentation,
    )


def rehearse(settings: Settings, subject: Subject, num_records: int) -> Rehearsal:
    """Grey images, as they will be handed out."""
    num = subject.num_classes * settings.private_evolution.population
    distances = Held(
        num_bytes=8.0 * CHUNK * settings.private_evolution.population + 16.0 * num * math.prod(subject.image_shape),
        what=f"private_evolution.population={settings.private_evolution.population}: images of each class",
        mend="lower private_evolution.population",
    )
    made = Releasable(nothing_yet(settings, subject), release_config(settings, subject))
    return Rehearsal(made=made, held=(distances,))


def train(settings: Settings, context: Context) -> Trained:
    """Learns from public images, unless that was done before, then lets records vote."""
    config = settings.private_evolution
    denoiser, public = public_denoiser(settings, context)
    records = context.read_records()
    subject, rng = Subject.of(records), context.rng("private-evolution")
    if public.image_shape != subject.image_shape:
        raise ValueError(
            f"the pretrained model makes images of shape {list(public.image_shape)}, the records are of shape "
            f"{list(subject.image_shape)}; see public_data.grey and public_data.image_size"
        )
    (plan,) = plans(settings, context.ledger, context.num_records(records))
    propose, vary = api_of(denoiser.eval(), public, settings.sampler, config.variation_steps, rng)
    with context.timed("private-evolution") as seconds:
        model = private_evolution(
            config,
            model=nothing_yet(settings, subject).to(context.device),
            propose=propose,
            vary=vary,
            embed=embedding_of(config.features, subject.image_shape, context.device),
            records=records,
            sanitizer=Sanitizer(plan, context.ledger, context.randomness.named("private-evolution")),
            rng=rng,
            checkpoint=context.checkpoint(
                "private_evolution", settings, records.fingerprint(), every_seconds=0, unnamed=False
            ),
        )
    model.public_images = denoiser.public_images  # type: ignore[assignment]
    context.say(
        f"private-evolution: {config.rounds} rounds of {config.population} images a class, noise multiplier "
        f"{plan.noise_multiplier:.3f}, in {seconds():.0f} s; epsilon {context.ledger.spent():.3f}"
    )
    return formally(Releasable(model, release_config(settings, subject)), context, "records", uses_size=False)


METHOD = Method(
    name="private-evolution",
    about="Private evolution (Lin et al. 2024): a diffusion model of public_data proposes images and varies them, and "
    "records vote for the nearest ones, private_evolution.rounds times; no weight is trained on records. The last "
    "images are released, and varied by `augmentation`. Public images cost no privacy. Takes pretrain.steps x "
    "batch_size passes of the network (none with pretrain.path), then private_evolution.rounds x population x "
    "variation_steps for each class: about 10 minutes on two CPU cores with the preset mnist-private-evolution.",
    settings=Settings,
    guarantees=("records",),
    stages=lambda settings: (
        PRETRAIN,
        Stage(
            name="private evolution",
            files=("private_evolution.checkpoint",),
            keys=("data", "privacy", "private_evolution", "network", "pretrain", "augmentation", "sampler"),
        ),
    ),
    plans=plans,
    rehearse=rehearse,
    train=train,
)
