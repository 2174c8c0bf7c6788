"""Students as they are handed out: what it takes to build one again."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Annotated

import torch
from torch import nn

from dpsad.data.augmentation import AugmentationConfig
from dpsad.diffusion.denoiser import Denoiser
from dpsad.diffusion.parameterisations import PARAMETERISATIONS
from dpsad.errors import require_choice
from dpsad.networks.autoencoder import AutoencoderConfig, Decoder
from dpsad.networks.config import NetworkConfig
from dpsad.networks.network import new_network
from dpsad.privacy.ranges import Count, CountOrZero, Fraction, Range, require_ranges
from students.base import Student
from students.few_step import SamplerConfig, few_step_student
from students.from_prototypes import StartedDenoiser, prototype_student
from students.generator import Generator, GeneratorConfig, generator_student
from students.guide import FEATURES, Guide, Guided, chosen_by, new_guide
from students.latent import LatentModel, latent_student
from students.prototypes import Prototypes
from students.spread import Spread
from students.varied_prototypes import HeldPrototypes, varied_student

Side = Annotated[int, Range("[1, 4096]")]  # of an image, in channels or pixels; no weight says how large one is
MAX_PIXELS = 2**26


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig:
    """What it takes to build the student again.

    kind: denoiser (few steps of one), prototypes (few steps of one, from varied prototypes on), latent (few steps of
        one, then a decoder), generator (one pass of one) or images (varied prototypes as they are).
    parameterisation, network, sampler: of a denoiser.
    fine_tuned: share of the denoiser's parameters that records have changed; the others come from public images.
    num_prototypes, augmentation: how many prototypes there are, and how they are varied.
    spread_dim, spread_groups: size of their spread, 0 where they have none.
    autoencoder: of latents.
    generator: of a generator.
    guide_features, guide_directions: kinds of features that the guide sees, if there is one, and how many of each.
    attempts: how often the guide lets an image be made anew.
    """

    kind: str = "denoiser"  # releases from before there were kinds
    image_shape: tuple[Side, ...]
    class_names: tuple[str, ...]
    use_labels: bool = True
    parameterisation: str = "edm"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    fine_tuned: Fraction = 1.0
    num_prototypes: CountOrZero = 0
    spread_dim: CountOrZero = 0
    spread_groups: CountOrZero = 0
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    guide_features: tuple[str, ...] = ()
    guide_directions: tuple[Count, ...] = ()
    attempts: Annotated[int, Range("[1, 1e6]")] = 1

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, tuple(KINDS))
        require_choice("parameterisation", self.parameterisation, tuple(PARAMETERISATIONS))
        require_ranges(self)
        if len(self.image_shape) != 3 or math.prod(self.image_shape) > MAX_PIXELS:
            raise ValueError(
                f"image_shape={list(self.image_shape)} must be channels, height and width of {MAX_PIXELS:,} numbers at "
                "most"
            )
        if not self.class_names:
            raise ValueError("class_names=[] must name each class")
        if len(self.guide_features) != len(self.guide_directions) or set(self.guide_features) - set(FEATURES):
            raise ValueError(
                f"guide_features={list(self.guide_features)} must be of {', '.join(FEATURES)}, each with its number in "
                f"guide_directions={list(self.guide_directions)}"
            )


@dataclass(frozen=True)
class Releasable:
    """A trained model, and how to make images with it.

    model: whose weights are released; provenance released.
    config: how to build it again.
    """

    model: nn.Module
    config: ReleaseConfig

    def student(self) -> Student:
        kind = KINDS[self.config.kind]
        if not isinstance(self.model, Guided):
            return kind.student(self.config, self.model)
        alone = kind.student(self.config, self.model.model)
        chosen = chosen_by(self.model.guide, alone.make, self.config.attempts)
        return Student(self.model, alone.make, alone.image_shape, alone.class_names, chosen=chosen)


def guided_release(made: Releasable, guide: Guide, features: tuple[str, ...], attempts: int) -> Releasable:
    """A model that is handed out with the guide that chooses among its images.

    Args:
        features: their kinds, as the guide has them.
        attempts: as for `chosen_by`.
    """
    config = replace(made.config, guide_features=features, guide_directions=guide.num_directions, attempts=attempts)
    return Releasable(Guided(made.model, guide), config)


def new_model(config: ReleaseConfig) -> nn.Module:
    """A model of the right shape, its weights yet to be loaded."""
    model = KINDS[config.kind].new_model(config)
    if not config.guide_features:
        return model
    num_classes = len(config.class_names)
    return Guided(model, new_guide(config.guide_features, config.guide_directions, _shape(config), num_classes))


def releasable_generator(
    generator: Generator, config: GeneratorConfig, image_shape: tuple[int, int, int], class_names: tuple[str, ...]
) -> Releasable:
    """A one-pass generator of that shape, as it is handed out."""
    release = ReleaseConfig(kind="generator", image_shape=image_shape, class_names=class_names, generator=config)
    return Releasable(generator, release)


def _shape(config: ReleaseConfig) -> tuple[int, int, int]:
    chan, height, width = config.image_shape
    return chan, height, width


def _new_denoiser(config: ReleaseConfig, image_channels: int | None = None) -> Denoiser:
    network = new_network(
        config.network,
        image_channels=image_channels or _shape(config)[0],
        num_classes=len(config.class_names),
        use_labels=config.use_labels,
    )
    return Denoiser(network, parameterisation=config.parameterisation)


def _no_prototypes(config: ReleaseConfig) -> Prototypes:
    num, shape, dim = config.num_prototypes, _shape(config), config.spread_dim
    spread = Spread(torch.empty(dim, math.prod(shape)), torch.empty(config.spread_groups, dim, dim)) if dim else None
    labels = torch.empty(num, dtype=torch.int64)
    return Prototypes(torch.empty(num, *shape), labels, torch.empty(num), 0.0, spread=spread)


def _new_started(config: ReleaseConfig) -> StartedDenoiser:
    return StartedDenoiser(_new_denoiser(config), _no_prototypes(config))


def _new_held(config: ReleaseConfig) -> HeldPrototypes:
    return HeldPrototypes(_no_prototypes(config))


def _new_latent(config: ReleaseConfig) -> LatentModel:
    decoder = Decoder(config.autoencoder, _shape(config))
    return LatentModel(_new_denoiser(config, decoder.latent_shape[0]), decoder)


def _new_generator(config: ReleaseConfig) -> Generator:
    return Generator(config.generator, image_shape=_shape(config), num_classes=len(config.class_names))


def _few_step(config: ReleaseConfig, model: nn.Module) -> Student:
    return few_step_student(model, config.sampler, _shape(config), config.class_names, use_labels=config.use_labels)


def _started(config: ReleaseConfig, model: nn.Module) -> Student:
    assert isinstance(model, StartedDenoiser)
    return prototype_student(model, config.sampler, config.augmentation, _shape(config), config.class_names)


def _latent(config: ReleaseConfig, model: nn.Module) -> Student:
    assert isinstance(model, LatentModel)
    return latent_student(model, config.sampler, _shape(config), config.class_names)


def _one_pass(config: ReleaseConfig, model: nn.Module) -> Student:
    assert isinstance(model, Generator)
    return generator_student(model, _shape(config), config.class_names)


def _varied(config: ReleaseConfig, model: nn.Module) -> Student:
    assert isinstance(model, HeldPrototypes)
    return varied_student(model, config.augmentation, _shape(config), config.class_names)


@dataclass(frozen=True)
class Kind:
    """What differs between kinds of released students.

    new_model: a model of the right shape, its weights yet to be loaded.
    student: makes images with it.
    effort: how many passes of its network an image takes, in words.
    """

    new_model: Callable[[ReleaseConfig], nn.Module]
    student: Callable[[ReleaseConfig, nn.Module], Student]
    effort: Callable[[ReleaseConfig], str]


KINDS = {
    "denoiser": Kind(_new_denoiser, _few_step, lambda config: f"{config.sampler.steps} denoising steps"),
    "prototypes": Kind(
        _new_started, _started, lambda config: f"{config.sampler.steps} denoising steps from prototypes on"
    ),
    "latent": Kind(
        _new_latent, _latent, lambda config: f"{config.sampler.steps} denoising steps in a decoder's latents"
    ),
    "generator": Kind(_new_generator, _one_pass, lambda config: "one pass of a generator"),
    "images": Kind(_new_held, _varied, lambda config: "one variation of a released image each"),
}
