"""DP-Kernel: each class's kernel mean is released as a noisy function, known where the generator's images are.

The sum of k(x, .) over the records x is a function of images. With the noise of a Gaussian process of covariance k it
may be published, for one record moves it by sqrt(k(x, x)) = 1 in the norm of the kernel's space. At finitely many
landmarks that noise is jointly Gaussian, and its covariance is their Gram matrix K; in an orthonormal basis of the
landmarks' span it is independent from coordinate to coordinate. So a sum of rows, as the sanitizer makes it, is the
function's release. A generator then descends the distance to what was released (maximum mean discrepancy).

DP-MERF releases the same mean once, in random features that are drawn before anything is known. Here features follow
the generator: each round asks about its images of the moment. The published code asks anew in each of 200,000 steps,
and sends the gradient of the private mean to the generator without noise; docs/accounting-differences.md has more.

Source: Jiang et al. 2023, "Functional Renyi differential privacy for generative modeling".
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import torch
from torch import Tensor

from dpsad.data.augmentation import smooth_fields
from dpsad.data.records import ImageSet, Subject, require_own_labels
from dpsad.methods.method import Held, Method, Rehearsal, Stage, Trained, formally
from dpsad.privacy.clipping import BlockRows
from dpsad.privacy.exact import exact_products
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.ranges import Count, HalfLife, LearningRate, Range, Share, require_ranges
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.release.students import releasable_generator
from dpsad.runtime.checkpoint import Checkpoint, progress
from dpsad.runtime.context import Context
from dpsad.runtime.log import Log
from dpsad.runtime.precision import autocast
from dpsad.training.ema import ExponentialMovingAverage
from dpsad.training.models import new_generator
from dpsad.training.schedules import warm_cosine
from students.generator import Generator, GeneratorConfig

CHUNK = 2048  # records whose rows are held at once
SMOOTHNESS = 0.12  # of the first landmarks, as a share of the image's side
LEAST_SIGNAL = 1e-2  # of the noise's variance, that a released coordinate is taken to hold


@dataclass(frozen=True, kw_only=True)
class DpKernelConfig:
    """How the kernel mean is released, and the generator that learns from it.

    rounds: releases of all records' rows, each at new landmarks.
    landmarks: images of each class at which a round releases the function.
    length_scales: of the Gaussian kernels whose mean is the kernel, as multiples of the root of the number of values in
        an image.
    nugget: added to the diagonal of the landmarks' Gram matrix: landmarks that nearly agree share their noise.
    count_share: share of a row's squared norm that counts its class.
    steps: of the generator in each round.
    batch_size: generated images in a step; the classes take equal parts, of two at least.
    learning_rate: of Adam, peak; falls as a half cosine over all rounds.
    ema_half_life_steps: of the weight average.
    generator: its shape.
    """

    rounds: Count = 5
    landmarks: Count = 150
    length_scales: tuple[Annotated[float, Range("(0, 1e3]")], ...] = (0.3, 0.6)
    nugget: Annotated[float, Range("[1e-6, 1]")] = 1e-2
    count_share: Share = 0.01
    steps: Count = 200
    batch_size: Count = 200
    learning_rate: LearningRate = 1e-2
    ema_half_life_steps: HalfLife = 50.0
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)

    def __post_init__(self) -> None:
        require_ranges(self, "dp_kernel")
        if not self.length_scales:
            raise ValueError("dp_kernel.length_scales=[] must name at least one length scale")


@dataclass(frozen=True)
class Kernel:
    """A mean of Gaussian kernels, k(x, x) = 1.

    length_scales: in the units of vectors.
    """

    length_scales: tuple[float, ...]

    def of_distances(self, squared: Tensor) -> Tensor:
        """The kernel of vectors whose squared distances these are."""
        waves = [(squared / (-2 * scale**2)).exp() for scale in self.length_scales]
        return torch.stack(waves).mean(0)

    def __call__(self, x: Tensor, y: Tensor) -> Tensor:
        """[..., n, dim], [..., m, dim] -> [..., n, m], with gradients."""
        norms = x.square().sum(-1)[..., :, None] + y.square().sum(-1)[..., None, :]
        return self.of_distances((norms - 2 * x @ y.mT).clamp(min=0))

    def of_each(self, x: Tensor, y: Tensor, bound: float) -> Tensor:
        """As a call, in float64, of vectors whose elements are brought within `bound`; each value is a function of its
        two vectors alone, to the bit, whatever stands beside them. Without gradients."""
        norms = [exact_products(some[:, None], some[:, None], bound, bound)[:, 0, 0] for some in (x, y)]
        return self.of_distances(norms[0][:, None] + norms[1] - 2 * exact_products(x, y, bound, bound))


def kernel_of(config: DpKernelConfig, image_shape: tuple[int, int, int]) -> Kernel:
    """The public kernel of a run."""
    return Kernel(tuple(scale * math.sqrt(math.prod(image_shape)) for scale in config.length_scales))


def bases_of(kernel: Kernel, landmarks: Tensor, nugget: float) -> Tensor:
    """[num_classes, num, num] float64 inverse roots of K + nugget, symmetric: from values at landmarks to coordinates.

    Args:
        landmarks: [num_classes, num, dim] public.
    """
    gram = kernel(landmarks.double(), landmarks.double())
    values, vectors = torch.linalg.eigh(gram)
    return vectors @ torch.diag_embed((values.clamp(min=0) + nugget).rsqrt()) @ vectors.mT


def function_rows(
    kernel: Kernel, landmarks: Tensor, bases: Tensor, records: ImageSet, count_share: float
) -> Iterator[BlockRows]:
    """Each record's row: [sqrt(1 - a) * coordinates of k(x, .); sqrt(a)] in the block of its class.

    Args:
        landmarks: [num_classes, num, dim] public, in [-1, 1].
        bases: [num_classes, num, num], as `bases_of` gives them.
        count_share: a, of the count.

    Returns:
        Chunks of block rows, [records, num + 1], each a function of one record, to the bit. The norm is at most 1: the
        coordinates have that of the projection of k(x, .) on the landmarks' span, or less with a nugget, and k(x, x) is
        1.
    """
    largest = float(bases.abs().max())
    for images, labels in zip(records.images.split(CHUNK), records.labels.split(CHUNK), strict=True):
        labels = labels.to(bases.device)
        values = torch.empty(len(labels), landmarks.shape[1] + 1, device=bases.device)
        values[:, -1] = math.sqrt(count_share)
        for label, (places, basis) in enumerate(zip(landmarks, bases, strict=True)):
            own = (labels == label).nonzero().flatten()
            seen = kernel.of_each(images[own.to(images.device)].to(bases.device).flatten(1), places, 1.0)
            values[own, :-1] = math.sqrt(1 - count_share) * exact_products(seen, basis, 1.0, largest).float()
        yield BlockRows(values, labels)


class KernelMean:
    """The released kernel mean of each class, as far as rounds have asked for it.

    Attributes:
        landmarks: [num_classes, num, dim] of each round, public or released.
        sums: [num_classes, num + 1] noisy sum of rows of each round.
    """

    def __init__(self) -> None:
        self.landmarks: list[Tensor] = []
        self.sums: list[Tensor] = []

    def function(self, config: DpKernelConfig, kernel: Kernel, noise: float) -> tuple[Tensor, Tensor]:
        """The mean functions as weighted sums of kernels, from all rounds together.

        The best estimate if the sum of k(x, .) over a class were a Gaussian process itself, of covariance k times a
        variance that is read off the released coordinates. A class counts as at least one and as what noise alone would
        show, so that an empty one is not blown up.

        Args:
            noise: standard deviation of the noise on `sums`.

        Returns:
            [num_classes, rounds * num, dim] landmarks, and the weight of each, [num_classes, rounds * num].
        """
        landmarks = torch.cat(self.landmarks, dim=1).double()
        values = torch.cat([sums[:, :-1] for sums in self.sums], dim=1).double() / math.sqrt(1 - config.count_share)
        counts = torch.stack([sums[:, -1] for sums in self.sums]).mean(0) / math.sqrt(config.count_share)
        least = max(1.0, 2 * noise / math.sqrt(config.count_share * len(self.sums)))
        bases = [bases_of(kernel, some, config.nugget) for some in self.landmarks]
        basis = torch.stack([torch.block_diag(*(base[label] for base in bases)) for label in range(len(landmarks))])
        variance = max(noise**2 / (1 - config.count_share), 1e-9)
        signal = (values.square().mean(1) - variance).clamp(min=LEAST_SIGNAL * variance)
        inner = basis @ kernel(landmarks, landmarks) @ basis
        inner.diagonal(dim1=1, dim2=2).add_((variance / signal).clamp(min=1e-8)[:, None])
        weights = (basis @ torch.linalg.solve(inner, values[..., None]))[..., 0] / counts.clamp(min=least)[:, None]
        return landmarks.float(), weights.float()

    def state_dict(self) -> dict:
        return {"landmarks": self.landmarks, "sums": self.sums}

    def load_state_dict(self, state: dict) -> None:
        self.landmarks, self.sums = list(state["landmarks"]), list(state["sums"])


def discrepancy(kernel: Kernel, images: Tensor, landmarks: Tensor, weights: Tensor) -> Tensor:
    """Squared distance of generated images' kernel mean from a function, averaged over classes, but for a constant.

    Args:
        images: [num_classes, num, dim] generated, num >= 2.
        landmarks, weights: the function, as `KernelMean.function` gives it.

    Source: Jiang et al. 2023, equation 9; without the pairs of an image and itself (Gretton et al. 2012, lemma 6).
    """
    num = images.shape[1]
    among = kernel(images, images)
    pairs = (among.sum((1, 2)) - among.diagonal(dim1=1, dim2=2).sum(1)) / (num * (num - 1))
    across = (kernel(images, landmarks) * weights[:, None]).sum(2).mean(1)
    return (pairs - 2 * across).mean()


def first_landmarks(num: int, image_shape: tuple[int, int, int], rng: torch.Generator) -> Tensor:
    """[num, dim] public images in [-1, 1]: smooth fields of random brightness and contrast.

    An untrained generator's are all alike.
    """
    chan, height, width = image_shape
    fields = smooth_fields(num * chan, height, width, SMOOTHNESS, device=rng.device, rng=rng)[..., 0]
    uniform = torch.rand(2, num, 1, generator=rng, device=rng.device)
    return (fields.reshape(num, -1) * uniform[0] + 2 * uniform[1] - 1).clamp(-1, 1)


def dp_kernel(
    config: DpKernelConfig,
    *,
    generator: Generator,
    kernel: Kernel,
    records: ImageSet,
    sanitizer: Sanitizer,
    rng: torch.Generator,
    checkpoint: Checkpoint,
    log: Log,
    precision: str = "auto",
) -> Generator:
    """Releases the records' kernel mean round by round, and trains a generator to have the same.

    Args:
        generator: provenance public; is trained in place, on the device of `rng`.
        kernel: public.
        records: the private records.
        sanitizer: holds a plan of `config.rounds` releases on all records, rows bounded by 1.
        rng: public; draws the first landmarks and the generator's noise.
        checkpoint: tracks ledger, releases, generator and optimizer in one file.
        log: the discrepancy is public.

    Returns:
        The averaged generator.

    Formal guarantee: all of it is post-processing of `sanitizer`'s releases. Landmarks are public, or images of a
    generator that has seen earlier releases alone.

    Source: Jiang et al. 2023, Algorithm 1, with rounds in place of its steps.
    """
    require_own_labels(records)
    device, num_classes, shape = rng.device, records.num_classes, records.image_shape
    mean = KernelMean()
    ema = ExponentialMovingAverage(generator, half_life=config.ema_half_life_steps, warmup=1.0)
    optimizer = torch.optim.Adam(generator.parameters(), lr=config.learning_rate)
    total = config.rounds * config.steps
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warm_cosine(step, total))
    checkpoint.track(
        generator=generator, ema=ema, optimizer=optimizer, schedule=schedule, stream=rng,
        sanitizer=sanitizer, mean=mean,
    )  # fmt: skip
    checkpoint.hold(log)
    checkpoint.guard("dp_kernel.learning_rate", generator=generator, ema=ema, optimizer=optimizer)
    sanitizer.charge()

    def generated(num: int) -> Tensor:
        labels = torch.arange(num_classes, device=device).repeat_interleave(num)
        noise = torch.randn(len(labels), generator.noise_dim, generator=rng, device=device)
        with autocast(device, precision):
            return generator(noise, labels).float().reshape(num_classes, num, -1)

    @torch.no_grad()
    def ask(places: Tensor) -> None:
        rows = function_rows(kernel, places, bases_of(kernel, places, config.nugget), records, config.count_share)
        mean.sums.append(sanitizer.release(rows, (num_classes, config.landmarks + 1)).to(device))
        mean.landmarks.append(places)
        checkpoint.save()

    per_class = max(2, -(-config.batch_size // num_classes))
    function = None
    for step in progress(checkpoint, total, "dp-kernel"):
        if len(mean.sums) <= step // config.steps:
            if mean.sums:
                with torch.no_grad():
                    ask(generated(config.landmarks))
            else:
                ask(first_landmarks(num_classes * config.landmarks, shape, rng).unflatten(0, (num_classes, -1)))
            function = None
        if function is None:
            landmarks, weights = mean.function(config, kernel, sanitizer.plan.noise_scale)
            function = landmarks.to(device), weights.to(device)
        loss = discrepancy(kernel, generated(per_class), *function)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        ema.update(generator, 1)
        if (step + 1) % 50 == 0:
            log.public(step=step + 1, discrepancy=loss.item())
    ema.model.provenance = Provenance.RELEASED
    return ema.model


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What DP-Kernel is told."""

    dp_kernel: DpKernelConfig = field(default_factory=DpKernelConfig)


def plans(settings: Settings, budget: Ledger, num_records: int) -> list[ReleasePlan]:
    """Releases of all records' rows, of norm 1, on the whole budget; the number of records does not matter."""
    plan = ReleasePlan(
        purpose="dp-kernel, kernel mean", unit=Unit.RECORD, clip_norm=1.0, num_releases=settings.dp_kernel.rounds
    )
    return [budget.calibrate(plan)]


def rehearse(settings: Settings, subject: Subject, num_records: int) -> Rehearsal:
    """An untrained generator."""
    config, num_classes = settings.dp_kernel, subject.num_classes
    generator = Generator(config.generator, image_shape=subject.image_shape, num_classes=num_classes)
    num = config.rounds * config.landmarks
    kept = 4.0 * num_classes * num * (math.prod(subject.image_shape) + 1)
    function = Held(
        num_bytes=8.0 * num_classes * num**2 * (len(settings.dp_kernel.length_scales) + 4) + 2 * kept,
        what=f"dp_kernel.rounds={config.rounds} times dp_kernel.landmarks={config.landmarks}: the kernel of all pairs",
        mend="lower one of these",
    )
    made = releasable_generator(generator, config.generator, subject.image_shape, subject.class_names)
    return Rehearsal(made=made, held=(function,), kept=kept)


def train(settings: Settings, context: Context) -> Trained:
    """Releases the kernel mean in rounds, and trains a new generator on it."""
    config, records = settings.dp_kernel, context.read_records()
    subject = Subject.of(records)
    (plan,) = plans(settings, context.ledger, context.num_records(records))
    with context.timed("dp-kernel") as seconds:
        generator = dp_kernel(
            config,
            generator=new_generator(config.generator, subject, context),
            kernel=kernel_of(config, subject.image_shape),
            records=records,
            sanitizer=Sanitizer(plan, context.ledger, context.randomness.named("dp-kernel")),
            rng=context.rng("dp-kernel"),
            checkpoint=context.checkpoint("dp_kernel", config, records.fingerprint()),
            log=context.log("dp-kernel"),
            precision=context.precision,
        )
    context.say(
        f"dp-kernel: {config.rounds} rounds of {config.landmarks} landmarks a class, noise multiplier "
        f"{plan.noise_multiplier:.3f}, {config.rounds * config.steps} steps of {config.batch_size} images, in "
        f"{seconds():.0f} s; epsilon {context.ledger.spent():.3f}"
    )
    made = releasable_generator(generator, config.generator, subject.image_shape, subject.class_names)
    return formally(made, context, "records", uses_size=False)


METHOD = Method(
    name="dp-kernel",
    about="DP-Kernel (Jiang et al. 2023): the kernel mean of each class, released as a noisy function where the "
    "generator's images are, dp_kernel.rounds times, and a generator that learns to have the same. Costs a pass over "
    "the records a round, seconds on a CPU core, and dp_kernel.rounds x steps x batch_size passes of a small "
    "generator: some minutes with the preset mnist-dp-kernel.",
    settings=Settings,
    guarantees=("records",),
    stages=lambda settings: (
        Stage(name="dp-kernel", files=("dp_kernel.checkpoint",), keys=("data", "privacy", "dp_kernel")),
    ),
    plans=plans,
    rehearse=rehearse,
    train=train,
)
