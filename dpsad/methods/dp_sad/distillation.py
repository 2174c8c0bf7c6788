"""Distillation: one stochastic loop, for every guarantee.

What differs between guarantees arrives as arguments: where the clean images come from, whether they are also targets,
at which noise levels an image is looked at, and what an output gradient must pass before it reaches the student's
weights.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from discriminators.choice import Discriminator
from discriminators.losses import (
    discriminator_loss,
    feature_distance,
    gradient_penalty,
    non_saturating_loss,
    saturating_loss,
)
from dpsad.diffusion.denoiser import Denoiser
from dpsad.diffusion.parameterisations import edm_loss_weight
from dpsad.errors import require_choice
from dpsad.methods.dp_sad.queries import Answers, Proposal, propose
from dpsad.privacy.provenance import combined, public_images_of, require_released, united
from dpsad.privacy.ranges import Count, CountOrZero, HalfLife, LearningRate, Weight, require_ranges
from dpsad.runtime.checkpoint import Checkpoint, progress
from dpsad.runtime.log import Log
from dpsad.runtime.precision import autocast
from dpsad.runtime.ranks import ALONE, Ranks
from dpsad.training.batches import Batches
from dpsad.training.ema import ExponentialMovingAverage
from dpsad.training.schedules import warm_cosine
from teachers.base import Teacher

Levels = Callable[[int, torch.Generator], Tensor]  # how many images -> [per image, images] noise levels
Sanitize = Callable[[Tensor], Tensor]  # [batch, ...] gradient per output -> what may leave


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """How the student learns from its teacher.

    start: teacher (copies its weights where the networks are alike) or random.
    use_labels: whether it is told the class; without, it makes images of any class.
    steps, batch_size, learning_rate, ema_half_life_images: as for the teacher.
    teacher_weight: of the error against the teacher's answer.
    data_weight: of the error against the record itself; only a nominal run has it in this loop.
    adversarial_weight: lambda of the paper; 0 turns the discriminator off.
    adversarial_loss: saturating (the paper's log(1 - D)) or non_saturating.
    weighting: of squared errors over noise levels: edm, or flat (the paper's).
    """

    RENAMED_KEYS: ClassVar[dict[str, str]] = {"half_life": "ema_half_life_images"}

    start: str = "teacher"
    use_labels: bool = True
    steps: CountOrZero = 500
    batch_size: Count = 128
    learning_rate: LearningRate = 3e-4
    ema_half_life_images: HalfLife = 10_000
    teacher_weight: Weight = 1.0
    data_weight: Weight = 0.0
    adversarial_weight: Weight = 1.0
    adversarial_loss: str = "saturating"
    weighting: str = "edm"

    def __post_init__(self) -> None:
        require_ranges(self, "student")
        require_choice("student.start", self.start, ("teacher", "random"))
        require_choice("student.adversarial_loss", self.adversarial_loss, ("saturating", "non_saturating"))
        require_choice("student.weighting", self.weighting, ("edm", "flat"))


def distill(
    config: StudentConfig,
    *,
    student: Denoiser,
    teacher: Teacher,
    discriminator: Discriminator | None,
    batches: Batches,
    levels: Levels,
    sanitize: Sanitize | None,
    rng: torch.Generator,
    checkpoint: Checkpoint,
    log: Log,
    precision: str = "auto",
    answers: Answers | None = None,
    penalty_weight: float = 0.0,
    feature_weight: float = 0.0,
    ranks: Ranks = ALONE,
) -> Denoiser:
    """Trains the student on its teacher's answers.

    Args:
        student: the model to train.
        teacher: one shard.
        discriminator: trained along; None without one.
        batches: clean images to noise, and their labels.
        levels: the noise levels of a step, [per image, images]: usually one random level per image. An image's loss is
            the mean over its levels. They are worked off one row at a time, so that memory holds one batch of images,
            however many levels there are.
        sanitize: passes the gradient at the student's outputs. None asks that everything here is released, so that the
            gradient is no row and passes as it is.
        rng: model randomness.
        checkpoint, log: as in `teach`.
        answers: released answers to earlier questions, which are replayed beside the teacher's: a quarter of a batch
            in each step. None replays nothing.
        penalty_weight: of R1 in the discriminator's loss, at the teacher's answers.
        feature_weight: as for `output_gradient`.
        ranks: those that share each batch: all draw the whole of it, and each learns from its part. What is replayed,
            all of them learn from.

    Returns:
        The averaged student; it has seen what its teacher and its images have.

    Raises:
        ValueError: without `sanitize`, the teacher, the images or the student have seen records without protection.
            Weights became NaN or infinite; without `sanitize` all of them are post-processing of releases, and with it
            nothing is claimed.

    Source: DP-SAD, Algorithm 1.
    """
    seen = {"the teacher": teacher.provenance, "the student": student.provenance, "its images": batches.provenance}
    if sanitize is None:
        for what, provenance in seen.items():
            require_released(what, provenance, "a formal run beside the student")
    device = rng.device
    ema = ExponentialMovingAverage(student, half_life=config.ema_half_life_images)
    optimizer = torch.optim.Adam(student.parameters(), lr=config.learning_rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, config.steps))
    checkpoint.track(student=student, ema=ema, optimizer=optimizer, schedule=schedule, generator=rng)
    checkpoint.hold(log)
    learned = {"student": student} if discriminator is None else {"student": student, "discriminator": discriminator}
    checkpoint.guard("student.learning_rate", **learned, ema=ema, optimizer=optimizer)
    if discriminator is not None:
        discriminator_optimizer = torch.optim.Adam(
            discriminator.parameters(), lr=config.learning_rate, betas=(0.5, 0.99)
        )
        # by the names that these parts have in checkpoints
        checkpoint.track(critic=discriminator, critic_optimizer=discriminator_optimizer)
    for step in progress(checkpoint, config.steps, "distill"):
        clean, labels = batches.draw(config.batch_size, rng)
        sigmas, shape = ranks.part(levels(len(clean), rng), dim=1), clean.shape
        clean, labels = ranks.part(clean), ranks.part(labels)
        for sigma in sigmas:
            noise = ranks.part(torch.randn(shape, generator=rng, device=device))
            with autocast(device, precision):
                proposal = propose(student, clean, sigma, noise, labels)
                answer = teacher.denoise(proposal.inputs, sigma, labels)[0]
                gradient = output_gradient(
                    config, proposal, answer, clean, discriminator, student.sigma_data, feature_weight
                )
            released = gradient if sanitize is None else sanitize(gradient)
            proposal.outputs.backward(released / sigmas.numel())
            if discriminator is not None:
                with autocast(device, precision):
                    real = discriminator(answer, sigma, labels)
                    fake = discriminator(proposal.outputs.detach(), sigma, labels)
                    loss = discriminator_loss(real.float(), fake.float())
                if penalty_weight:
                    # in float32: a gradient of a gradient
                    loss = loss + penalty_weight * gradient_penalty(discriminator, answer.float(), sigma, labels)
                (loss / len(sigmas)).backward()
        if answers is not None:
            replayed = answers.draw(max(1, config.batch_size // 4), rng)
            with autocast(device, precision):
                outputs = student(replayed.inputs, replayed.sigma, replayed.labels)
            weight = edm_loss_weight(replayed.sigma, student.sigma_data)
            error = (outputs - replayed.targets).square().sum(dim=(1, 2, 3))
            ((weight * error).sum() / config.batch_size).backward()
        ranks.average_gradients(*learned.values())
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        ema.update(student, config.batch_size)
        if discriminator is not None:
            discriminator_optimizer.step()
            discriminator_optimizer.zero_grad(set_to_none=True)
        if (step + 1) % 50 == 0:
            values = {"teacher_error": (proposal.outputs.detach() - answer).square().mean().item()}
            values |= {} if discriminator is None else {"discriminator_loss": loss.item()}
            log.private(step=step + 1, **values)
    ema.model.provenance = combined(*seen.values())
    ema.model.public_images = united(public_images_of(teacher), student.public_images, batches.public_images)
    return ema.model


def output_gradient(
    config: StudentConfig,
    proposal: Proposal,
    answer: Tensor,
    clean: Tensor,
    discriminator: Discriminator | None,
    sigma_data: float,
    feature_weight: float = 0.0,
) -> Tensor:
    """Gradient of each image's loss at the student's output for it.

    L = teacher_weight * ||teacher - student||^2 + data_weight * ||image - student||^2 + adversarial_weight * L_adv
        + feature_weight * ||features(teacher) - features(student)||^2

    Squared errors are summed over pixels. Averaged, they would have a gradient ten to a hundred times smaller than
    that of the discriminator, and lambda = 1 would leave the discriminator alone to teach.

    Args:
        proposal: the student's batch.
        answer: [batch, chan, height, width] the teacher's clean images for the same inputs.
        clean: like answer, the images that were noised.
        discriminator: scores student outputs, and has features of them; None leaves its terms out.
        sigma_data: standard deviation of clean pixels.
        feature_weight: of the distance from the answer in the discriminator's features; 0 leaves it out.

    Returns:
        [batch, chan, height, width] one row per image, not divided by the batch size.

    Source: DP-SAD, the student's loss; lambda is `adversarial_weight`.
    """
    outputs = proposal.outputs.detach()
    errors = config.teacher_weight * (outputs - answer) + config.data_weight * (outputs - clean)
    gradient = 2 * errors
    if config.weighting == "edm":
        gradient = gradient * edm_loss_weight(proposal.sigma, sigma_data)[:, None, None, None]
    if discriminator is not None:
        adversarial_loss = saturating_loss if config.adversarial_loss == "saturating" else non_saturating_loss
        outputs.requires_grad_()
        loss = adversarial_loss(discriminator(outputs, proposal.sigma, proposal.labels).float())
        (pull,) = torch.autograd.grad(loss.sum(), outputs)
        gradient = gradient + config.adversarial_weight * pull
        if feature_weight:
            made, wanted = (discriminator.features(images, proposal.sigma).float() for images in (outputs, answer))
            (pull,) = torch.autograd.grad(feature_distance(made, wanted).sum(), outputs)
            gradient = gradient + feature_weight * pull
    return gradient
