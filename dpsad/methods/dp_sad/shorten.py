"""Shortening: the student learns to land in a step or two where its many steps lead.

With a deterministic sampler an image is a function of its first noise, so the student's own images, which are released,
are answers to learn from: no record is asked, and nothing is spent.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

import torch
from torch import Tensor, nn

from dpsad.data.augmentation import AugmentationConfig
from dpsad.diffusion.denoiser import Denoiser
from dpsad.evaluation.downstream import train_classifier
from dpsad.methods.dp_sad.matching import Matching
from dpsad.networks.classifiers import Cnn, CnnTrunk
from dpsad.privacy.ranges import Count, CountOrZero, HalfLife, LearningRate, Positive, Range, Weight, require_ranges
from dpsad.release.students import Releasable
from dpsad.runtime.checkpoint import progress
from dpsad.runtime.context import Context
from dpsad.runtime.precision import autocast
from dpsad.runtime.state_fingerprint import fingerprint_of_state
from dpsad.training.ema import ExponentialMovingAverage
from dpsad.training.schedules import warm_cosine
from students.few_step import SamplerConfig, noised, stepped
from students.from_prototypes import StartedDenoiser
from students.sampling import even_labels
from students.seeds import Normal, image_seeds, normal_of
from students.varied_prototypes import varied

AT_ONCE = 250  # images that are made together
EPOCHS = 3  # of the classifier: what it looks at settles sooner than how well it tells

Begin = Callable[[Tensor, Normal], Tensor]  # labels and the noise of each image -> clean images that samples begin as
Matched = Callable[[Tensor, Tensor], Matching]  # images of the student before, and their labels -> what is asked of it


@dataclass(frozen=True, kw_only=True)
class ShortenConfig:
    """How the student learns to take fewer steps, once all else is learned.

    steps: optimizer steps; 0 leaves it the steps of its sampler.
    evaluations: passes of its network that an image takes from then on.
    sigma_min: noise level of the last pass where there are several; the sampler's own is for many steps.
    images: of the student as it was, which it learns from.
    batch_size, learning_rate, ema_half_life_images: as for the student.
    feature_weight: of the error in what a classifier of these images sees, beside that of pixels.
    """

    steps: CountOrZero = 0
    evaluations: Annotated[int, Range("[1, 8]")] = 2
    sigma_min: Positive = 0.4
    images: Count = 20000
    batch_size: Count = 64
    learning_rate: LearningRate = 3e-4
    ema_half_life_images: HalfLife = 10_000
    feature_weight: Weight = 1.0

    def __post_init__(self) -> None:
        require_ranges(self, "shorten")


def shortened_sampler(config: ShortenConfig, sampler: SamplerConfig) -> SamplerConfig:
    """The sampler of a shortened student: one deterministic pass a step, from the same first level on.

    Raises:
        ValueError: the last level would not be below the first.
    """
    if config.evaluations > 1 and config.sigma_min >= sampler.sigma_max:
        raise ValueError(
            f"shorten.sigma_min={config.sigma_min} must be below sampler.sigma_max={sampler.sigma_max}, where the "
            "first pass begins"
        )
    sigma_min = min(config.sigma_min, sampler.sigma_max / 2)  # a single pass has no last level of its own
    return replace(sampler, method="ddim", steps=config.evaluations, sigma_min=sigma_min, churn=0.0, guidance=0.0)


def shortened(
    config: ShortenConfig,
    context: Context,
    made: Releasable,
    matched: Matched | None = None,
    told: tuple[object, ...] = (),
) -> Releasable:
    """A student of few steps, trained on images that it makes in many.

    Args:
        made: the student as it was trained, of the kind that denoises noise or prototypes; its sampler adds no noise of
            its own.
        matched: what released features ask of its images beside.
        told: what that goes by, as for `Context.checkpoint`.

    Raises:
        ValueError: weights became NaN or infinite.

    Formal guarantee: post-processing of `made` and of what `matched` was released with; it keeps its provenance.
    """
    model, sampler = made.model, made.config.sampler
    fewer = shortened_sampler(config, sampler)
    denoiser, begin = _parts(model, made.config.augmentation)
    num_classes, shape, device = len(made.config.class_names), made.config.image_shape, context.device
    labels = even_labels(config.images, num_classes).to(device)
    inputs, targets = torch.empty(2, config.images, *shape, device=device)
    with context.timed("shorten") as seconds:
        for index, noisy in _beginnings(begin, sampler, labels, shape, context.seed):
            inputs[index] = noisy
            with torch.no_grad():
                targets[index] = stepped(denoiser, sampler, noisy, labels[index], no_label=num_classes).clamp(-1, 1)
        trunk = _trunk_of(targets, labels, num_classes, context)
        shorter = _train(
            config,
            context,
            denoiser,
            partial(stepped, sampler=fewer, no_label=num_classes),
            (inputs, targets, labels),
            trunk,
            None if matched is None else matched(targets, labels),
            learned_from=(fingerprint_of_state(model.state_dict()), *told),
        )
    context.say(f"shorten: {config.evaluations} passes an image, {config.steps} steps in {seconds():.0f} s")
    model = StartedDenoiser(shorter, model.prototypes()) if isinstance(model, StartedDenoiser) else shorter
    return Releasable(model, replace(made.config, sampler=fewer))


def _parts(model: nn.Module, augmentation: AugmentationConfig) -> tuple[Denoiser, Begin | None]:
    """The denoiser of a releasable model, and what its images begin as, if not as noise alone."""
    if not isinstance(model, StartedDenoiser):
        assert isinstance(model, Denoiser)
        return model, None
    assert isinstance(model.denoiser, Denoiser)
    return model.denoiser, partial(varied, model.prototypes(), augmentation)


def _beginnings(
    begin: Begin | None, sampler: SamplerConfig, labels: Tensor, shape: tuple[int, ...], seed: int
) -> Iterator[tuple[slice, Tensor]]:
    """Noisy images that samples begin as, batch by batch, each from a seed of its own."""
    seeds = image_seeds(seed, len(labels))
    for first in range(0, len(labels), AT_ONCE):
        index = slice(first, first + AT_ONCE)
        normal = normal_of(seeds[index], labels.device)
        start = torch.zeros(shape, device=labels.device) if begin is None else begin(labels[index], normal)
        yield index, noised(sampler, start, normal)


def _trunk_of(images: Tensor, labels: Tensor, num_classes: int, context: Context) -> CnnTrunk:
    """What a classifier has learned to see in images."""
    network = train_classifier(
        "cnn",
        images,
        labels,
        num_classes=num_classes,
        seed=context.seed,
        epochs=EPOCHS,
        device=context.device,
        precision=context.precision,
    )
    assert isinstance(network, Cnn)
    return network.trunk.eval().requires_grad_(False)


def _train(
    config: ShortenConfig,
    context: Context,
    denoiser: Denoiser,
    step_through: Callable[..., Tensor],
    pairs: tuple[Tensor, Tensor, Tensor],
    trunk: CnnTrunk,
    matching: Matching | None,
    *,
    learned_from: tuple[object, ...],
) -> Denoiser:
    """The averaged denoiser whose few steps lead from inputs to targets."""
    inputs, targets, labels = pairs
    rng, log = context.rng("shorten"), context.log("shorten")
    student = copy.deepcopy(denoiser).train().requires_grad_(True)
    ema = ExponentialMovingAverage(student, half_life=config.ema_half_life_images)
    optimizer = torch.optim.Adam(student.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, config.steps))
    checkpoint = context.checkpoint("shorten", config, *learned_from, unnamed=False)
    checkpoint.track(student=student, ema=ema, optimizer=optimizer, schedule=schedule, generator=rng)
    if matching is not None:
        checkpoint.track(late=matching.late)
    checkpoint.guard("shorten.learning_rate", student=student, ema=ema, optimizer=optimizer)
    checkpoint.hold(log)
    scales = [seen.var() for seen in seen_by(trunk, targets[: config.batch_size])]
    for step in progress(checkpoint, config.steps, "shorten"):
        index = torch.randint(len(inputs), (config.batch_size,), generator=rng, device=rng.device)
        index = context.ranks.part(index)
        with autocast(rng.device, context.precision):
            outputs = step_through(student, noisy=inputs[index], labels=labels[index])
        outputs, wanted = outputs.float(), targets[index]
        loss = (outputs - wanted).square().mean() / student.sigma_data**2
        if config.feature_weight:
            kinds = zip(seen_by(trunk, outputs), seen_by(trunk, wanted), scales, strict=True)
            errors = [(ours - theirs).square().mean() / scale for ours, theirs, scale in kinds]
            loss = loss + config.feature_weight * torch.stack(errors).sum()
        if matching is not None:
            loss = loss + matching.loss(outputs, labels[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        context.ranks.average_gradients(student)
        optimizer.step()
        schedule.step()
        ema.update(student, config.batch_size)
        if (step + 1) % 50 == 0:
            log.private(step=step + 1, shorten_loss=loss.item())
    ema.model.provenance, ema.model.public_images = denoiser.provenance, denoiser.public_images
    return ema.model


def seen_by(trunk: CnnTrunk, images: Tensor) -> list[Tensor]:
    """What each convolution of a classifier makes of images: [num, chan, height, width] each."""
    seen = []
    for layer in trunk.layers:
        images = layer(images)
        if isinstance(layer, nn.Conv2d):
            seen.append(images)
    return seen
