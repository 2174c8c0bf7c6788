"""Public denoiser: learned from public images once for any number of runs, at no cost."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol

import torch

from dpsad.data.records import ImageSet, Subject
from dpsad.diffusion.denoiser import Denoiser
from dpsad.methods.dp_sgd_denoiser import BaselineConfig, baseline_levels
from dpsad.methods.method import Stage
from dpsad.networks.config import NetworkConfig
from dpsad.privacy.provenance import Provenance
from dpsad.privacy.ranges import Count, Fraction, HalfLife, LearningRate, require_ranges
from dpsad.runtime.checkpoint import save_atomic
from dpsad.runtime.context import Context
from dpsad.training.batches import batches_as_they_are
from dpsad.training.denoiser import train_denoiser
from dpsad.training.denoiser_files import denoiser_state, read_denoiser
from dpsad.training.models import new_denoiser

LABEL_WEIGHTS = ("network.embed_label.weight", "network.embed_tokens.weight")  # the last column is "no label"

PRETRAIN = Stage(
    name="pretrain",
    files=("pretrain.checkpoint", "pretrained.pt"),
    keys=(
        "public_data", "network", "pretrain",
        "baseline.parameterisation", "baseline.sigma_mean", "baseline.sigma_std",
    ),
)  # fmt: skip

See = Callable[[ImageSet], ImageSet]


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How a baseline learns from `public_data` before it meets records. It costs no privacy.

    path: a pretrained.pt of another run, to start from instead of training one.
    steps, batch_size: optimizer steps, and images in each.
    learning_rate: peak; rises over the first 100 steps and falls as a half cosine.
    ema_half_life_images: of the weight average.
    label_dropout: fraction of images trained without their label.
    """

    RENAMED_KEYS: ClassVar[dict[str, str]] = {"half_life": "ema_half_life_images"}

    path: str | None = None
    steps: Count = 2000
    batch_size: Count = 128
    learning_rate: LearningRate = 1e-3
    ema_half_life_images: HalfLife = 20_000
    label_dropout: Fraction = 0.1

    def __post_init__(self) -> None:
        require_ranges(self, "pretrain")


class PublicSettings(Protocol):
    """The sections that decide what is learned from public images."""

    @property
    def network(self) -> NetworkConfig: ...
    @property
    def baseline(self) -> BaselineConfig: ...
    @property
    def pretrain(self) -> PretrainConfig: ...


def as_they_are(images: ImageSet) -> ImageSet:
    return images


def public_denoiser(settings: PublicSettings, context: Context, see: See = as_they_are) -> tuple[Denoiser, Subject]:
    """The denoiser of public images that the run has, or the one at `pretrain.path`, or a new one.

    Records are read to compare them with public images, and for nothing else: whatever they are, it is the same.

    Args:
        see: what the denoiser sees of images, such as their latents.

    Returns:
        The denoiser, provenance public, and what it makes images of.

    Raises:
        ValueError: some public images are records, there is none at `pretrain.path`, it is of another kind, or it has
            seen records.
    """
    path = Path(settings.pretrain.path or context.run.public_denoiser)
    if not path.exists():
        if settings.pretrain.path:
            raise ValueError(
                f"no pretrained model at pretrain.path={path}; pass private/pretrained.pt of another run, or leave "
                "pretrain.path out to train one"
            )
        _pretrain(settings, context, path, see)
    denoiser, subject, _ = read_denoiser(
        path, settings.network, context, parameterisation=settings.baseline.parameterisation
    )
    require_public(f"pretrain.path={path}", denoiser.provenance)
    context.require_apart(f"pretrain.path={path}", denoiser.public_images)
    return denoiser, subject


def require_public(what: str, provenance: Provenance) -> None:
    """Refuses a model that has seen records, even through releases: what those have cost is not known here.

    Raises:
        ValueError: `provenance` is not public.
    """
    if provenance is not Provenance.PUBLIC:
        raise ValueError(
            f"{what} has provenance '{provenance.value}': it has seen records, which nothing here would account for; "
            "pass a model that was trained on public images alone"
        )


def _pretrain(settings: PublicSettings, context: Context, path: Path, see: See) -> None:
    images = see(context.read_public())
    subject, parameterisation = Subject.of(images), settings.baseline.parameterisation
    with context.timed("pretrain") as seconds:
        denoiser = train_denoiser(
            "pretrain",
            settings.pretrain,
            denoiser=new_denoiser(settings.network, subject, context, "pretrain", parameterisation=parameterisation),
            num_classes=images.num_classes,
            batches=batches_as_they_are(images, context.device),
            levels=baseline_levels(settings.baseline),
            rng=context.rng("pretrain"),
            checkpoint=context.checkpoint("pretrain", settings.pretrain, settings.network, images.fingerprint()),
            log=context.log("pretrain"),
            learning_rate_key="pretrain.learning_rate",
            precision=context.precision,
            ranks=context.ranks,
        )
    save_atomic(denoiser_state(denoiser, settings.network, subject, parameterisation=parameterisation), path)
    context.say(f"pretrain: {settings.pretrain.steps} steps on {len(images)} public images in {seconds():.0f} s")


def with_weights_of(trained: Denoiser, new: Denoiser) -> Denoiser:
    """Gives a denoiser, to be trained on, the weights of one of the same classes.

    Returns:
        `new`.
    """
    new.load_state_dict(trained.state_dict())
    new.provenance, new.public_images = trained.provenance, trained.public_images
    return new


def with_new_classes(pretrained: Denoiser, new: Denoiser) -> Denoiser:
    """Gives a denoiser of the records' classes the pretrained weights, all but those that tell classes apart.

    Public classes are not private ones, so each new class has the embedding that it was drawn with: far apart, where
    `network.label_spread` says so. "No label" starts at "no label".

    Args:
        pretrained, new: of the same network and image channels, of any number of classes.

    Returns:
        `new`.
    """
    weights, drawn = pretrained.state_dict(), new.state_dict()
    for name in (name for name in LABEL_WEIGHTS if name in drawn):
        weights[name] = torch.cat([drawn[name][:, :-1], weights[name][:, -1:]], dim=1)
    new.load_state_dict(weights)
    new.provenance, new.public_images = pretrained.provenance, pretrained.public_images
    return new
