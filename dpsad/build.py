"""From a config to objects. The only place that asks which guarantee or which kind a run has."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor, nn

from discriminators.base import Discriminator
from discriminators.choice import new_discriminator
from dpsad.config import Config, PrivacyConfig
from dpsad.data.augmentation import AugmentationConfig, augment
from dpsad.data.records import ImageSet
from dpsad.data.shards import Shards, split_into_shards
from dpsad.diffusion import noise_levels
from dpsad.diffusion.denoiser import Denoiser
from dpsad.diffusion.noise_levels import every_level, linear_schedule_levels, lognormal_levels, one_random_level
from dpsad.diffusion.parameterisations import lognormal_quantiles
from dpsad.networks.autoencoder import Autoencoder
from dpsad.networks.unet import UNet
from dpsad.privacy.calibration import calibrate_noise_multiplier
from dpsad.privacy.plan import ReleasePlan
from dpsad.privacy.provenance import require_released
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.release import Releasable, ReleaseConfig
from dpsad.stages.distill import Levels, Sanitize
from dpsad.stages.fit import BaselineConfig, RefineConfig
from dpsad.stages.nominal import nominal_plan, published_noise
from dpsad.stages.sketch import NamedPlan
from dpsad.stages.teach import Draw, TeacherConfig
from students.from_prototypes import StartedDenoiser
from students.generator import Generator, GeneratorConfig
from students.prototypes import Prototypes
from teachers.base import Teacher

Model = TypeVar("Model", bound=nn.Module)
REFINE = "refine, gradient rows"


def device_named(name: str) -> torch.device:
    """The device that `device=name` means here; auto is CUDA where there is one.

    Raises:
        ValueError: it is no device, or there is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device={name!r} is no device; use auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name!r}: torch sees no CUDA device here; use device=auto or cpu")
    return device


def device_of(config: Config) -> torch.device:
    return device_named(config.device)


def hardware_of(device: torch.device) -> str:
    """What a device is called beside a time: a GPU's name, or "2 CPU threads", those that torch works with."""
    threads = torch.get_num_threads()
    cpu = f"{threads} CPU thread{'s' if threads > 1 else ''}"
    return torch.cuda.get_device_name(device) if device.type == "cuda" else cpu


def generator_of(config: Config, stage: str, device: torch.device) -> torch.Generator:
    """The model stream of a stage: a function of the run's seed and the stage's name."""
    # hashed to 32 bits, which is all of a seed that torch takes on CPUs
    digest = hashlib.sha256(f"{config.seed} {stage}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:4], "big"))


@contextmanager
def first_weights(config: Config, stage: str) -> Iterator[None]:
    """Networks that are made inside have the same first weights for the same seed and stage."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator_of(config, stage, torch.device("cpu")).initial_seed())
        yield


def split_records(config: Config, records: ImageSet, num_shards: int) -> Shards:
    """The run's shards; their key is the run's seed, and public."""
    return split_into_shards(records.ids, num_shards, key=f"dpsad shards {config.seed}".encode())


def build_denoiser(
    config: Config,
    image_shape: tuple[int, int, int],
    num_classes: int,
    stage: str,
    *,
    use_labels: bool = True,
    parameterisation: str = "edm",
) -> Denoiser:
    """A new denoiser, the same for the same seed and stage, on the run's device."""
    device = device_of(config)
    with first_weights(config, stage):
        network = UNet(config.network, image_channels=image_shape[0], num_classes=num_classes, use_labels=use_labels)
    return on_device(Denoiser(network, parameterisation=parameterisation), device)


def on_device(model: Model, device: torch.device) -> Model:
    """Moves a model; on CUDA also to channels-last, which tensor cores want. CPUs normalise faster without it."""
    layout = torch.channels_last if device.type == "cuda" else torch.contiguous_format
    return model.to(device, memory_format=layout)  # type: ignore[call-overload]


def build_discriminator(config: Config, image_shape: tuple[int, int, int], num_classes: int) -> Discriminator | None:
    """The discriminator, or None where the student's loss does not ask it."""
    if config.student.adversarial_weight == 0 and config.discriminator.feature_matching == 0:
        return None
    with first_weights(config, "critic"):  # the name is part of the seed
        discriminator = new_discriminator(config.discriminator, image_channels=image_shape[0], num_classes=num_classes)
    return on_device(discriminator, device_of(config))


def build_autoencoder(config: Config, image_shape: tuple[int, int, int]) -> Autoencoder:
    """A new autoencoder, the same for the same seed, on the run's device."""
    with first_weights(config, "compress"):
        autoencoder = Autoencoder(config.autoencoder, image_shape)
    return on_device(autoencoder, device_of(config))


def build_generator(
    config: Config, shape: GeneratorConfig, image_shape: tuple[int, int, int], num_classes: int
) -> Generator:
    """A new one-pass generator, the same for the same seed, on the run's device."""
    with first_weights(config, "generator"):
        generator = Generator(shape, image_shape=image_shape, num_classes=num_classes)
    return on_device(generator, device_of(config))


def draw_from_prototypes(prototypes: Prototypes, augmentation: AugmentationConfig, num_classes: int) -> Draw:
    """Varied prototypes of classes drawn evenly, for a model that is to make images: public, or released."""
    augmentation = replace(augmentation, noise=0.0)

    def draw(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        labels = torch.randint(num_classes, (num,), generator=generator, device=generator.device)
        return prototypes.draw(labels, augmentation, generator), labels

    return draw


def draw_as_they_are(images: ImageSet, device: torch.device) -> Draw:
    """Random images of a set, or latents of some; as private or public as the set is."""
    pixels, labels = images.images.to(device), images.labels.to(device)

    def draw(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        index = torch.randint(len(pixels), (num,), generator=generator, device=device)
        return pixels[index], labels[index]

    return draw


def draw_from_images(images: ImageSet, augmentation: AugmentationConfig, device: torch.device) -> Draw:
    """Random images of a set, varied; as private or public as the set is."""
    as_they_are = draw_as_they_are(images, device)

    def draw(num: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        pixels, labels = as_they_are(num, generator)
        return augment(pixels, augmentation, generator=generator).clamp(-1, 1), labels

    return draw


def num_records_of(config: Config, records: ImageSet | None = None) -> int:
    """The number of records that sampling probabilities and divisors come from."""
    if config.privacy.num_records:
        return config.privacy.num_records
    if records is None:
        raise ValueError("privacy.num_records=0: say how many records there are to plan without reading them")
    return len(records)


def calibrated(
    plan: Callable[[float], ReleasePlan], privacy: PrivacyConfig, spent: Sequence[NamedPlan] = ()
) -> ReleasePlan:
    """The plan, by noise multiplier, whose noise spends what `spent` leaves of the budget."""
    multiplier = calibrate_noise_multiplier(
        lambda multiplier: plan(multiplier).event(),
        epsilon=privacy.epsilon,
        delta=privacy.delta,
        spent=[spent_plan.event() for _, spent_plan in spent],
    )
    return plan(multiplier)


def nominal_plan_of(config: Config, num_records: int) -> ReleasePlan:
    """What DP-SAD would account for the student of a `published` run."""
    student, privacy = config.student, config.privacy
    sampling_prob = min(1.0, student.batch_size / num_records)

    def plan(noise_multiplier: float) -> ReleasePlan:
        return nominal_plan(noise_multiplier, config.published.max_norm, sampling_prob, student.steps)

    return calibrated(plan, privacy)


def lognormal_of(settings: TeacherConfig | RefineConfig | BaselineConfig) -> noise_levels.Levels:
    """Noise levels whose logarithm is normal, as a section says."""
    return partial(lognormal_quantiles, mean=settings.sigma_mean, std=settings.sigma_std)


def student_start(config: Config, student: Denoiser, teacher: Denoiser) -> Denoiser:
    """The student as the loop finds it."""
    if config.student.start == "teacher":
        student.load_state_dict(teacher.state_dict())
    return student


def releasable_student(
    config: Config,
    denoiser: Denoiser,
    image_shape: tuple[int, int, int],
    class_names: tuple[str, ...],
    prototypes: Prototypes | None,
) -> Releasable:
    """What is handed out of a finished run: its denoiser, and prototypes where samples start from them."""
    release = ReleaseConfig(
        image_shape=image_shape,
        class_names=class_names,
        use_labels=config.student.use_labels,
        network=config.network,
        sampler=config.sampler,
    )
    if config.sampler.start == "noise":
        return Releasable(denoiser, release)
    assert prototypes is not None  # the config refuses runs without a sketch
    num = len(prototypes.labels)
    started = replace(release, kind="prototypes", num_prototypes=num, augmentation=config.augmentation)
    return Releasable(StartedDenoiser(denoiser, prototypes), started)


def distillation_levels(config: Config, device: torch.device) -> Levels:
    """Which noise levels each image meets: one or all of the paper's T timesteps where `published`, else one of the
    teacher's own."""
    if config.guarantee == "published":
        table = linear_schedule_levels(config.published.num_levels).to(device)
        pick = every_level if config.published.timesteps == "all" else one_random_level
        return lambda num, generator: table[pick(len(table), num, generator)]
    mean, std = config.teacher.sigma_mean, config.teacher.sigma_std
    return lambda num, generator: lognormal_levels(num, mean=mean, std=std, generator=generator)[None]


def output_sanitizer(config: Config, noise_multiplier: float, randomness: PrivateRandomness) -> Sanitize:
    """What a gradient at the student's outputs passes. With released models only, it is no row and passes as it is."""
    if config.guarantee == "published":
        return published_noise(config.published, noise_multiplier, randomness)
    return lambda gradient: gradient


def check_teacher(config: Config, teacher: Teacher) -> None:
    """Refuses a teacher that may not meet this run's student."""
    if config.guarantee != "published":
        require_released("the teacher", teacher.provenance, f"a run with guarantee={config.guarantee}")
