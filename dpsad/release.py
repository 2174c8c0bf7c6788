"""The release folder: all of a run that is safe to share, and how to use it without the run."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dpsad.config_files import load_config, save_config
from dpsad.data.augmentation import AugmentationConfig
from dpsad.diffusion.denoiser import Denoiser
from dpsad.errors import require_choice
from dpsad.networks.autoencoder import AutoencoderConfig, Decoder
from dpsad.networks.config import NetworkConfig
from dpsad.networks.network import new_network
from dpsad.stages.generate import generate, labels_to_sample, sample_grid
from students.base import Student
from students.few_step import SamplerConfig, few_step_student
from students.from_prototypes import StartedDenoiser, prototype_student
from students.generator import Generator, GeneratorConfig, generator_student
from students.latent import LatentModel, latent_student
from students.prototypes import Prototypes

SAMPLES_PER_CLASS = 10


@dataclass(frozen=True, kw_only=True)
class ReleaseConfig:
    """What it takes to build the student again.

    kind: denoiser (few steps of one), prototypes (few steps of one, from varied prototypes on), latent (few steps of
        one, then a decoder) or generator (one pass of one).
    parameterisation, network, sampler: of a denoiser.
    fine_tuned: share of the denoiser's parameters that records have changed; the others come from public images.
    num_prototypes, augmentation: how many images begin with, and how they are varied.
    autoencoder: of latents.
    generator: of a generator.
    """

    kind: str = "denoiser"  # releases from before there were kinds
    image_shape: tuple[int, ...]
    class_names: tuple[str, ...]
    use_labels: bool = True
    parameterisation: str = "edm"
    network: NetworkConfig = field(default_factory=NetworkConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    fine_tuned: float = 1.0
    num_prototypes: int = 0
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)

    def __post_init__(self) -> None:
        require_choice("kind", self.kind, tuple(KINDS))


@dataclass(frozen=True)
class Releasable:
    """A trained model, and how to make images with it.

    model: whose weights are released; provenance released.
    config: how to build it again.
    """

    model: nn.Module
    config: ReleaseConfig

    def student(self) -> Student:
        return KINDS[self.config.kind].student(self.config, self.model)


def export_release(release: Path, made: Releasable, statement: dict) -> None:
    """Writes a release folder, whole or not at all.

    Args:
        release: the folder; replaced if it is there.
        made: what is released.
        statement: becomes privacy.json.

    Formal guarantee: the folder holds the student's weights, samples of it and public numbers; it is as private as
    `statement` says, and reads nothing else.
    """
    student = made.student()
    draft = release.with_name(f".{release.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    weights = {name: tensor.contiguous().cpu() for name, tensor in made.model.state_dict().items()}
    save_file(weights, draft / "student.safetensors")
    save_config(made.config, draft / "config.yaml")
    (draft / "privacy.json").write_text(json.dumps(statement, indent=2) + "\n", encoding="utf-8")
    num_classes = len(student.class_names)
    labels = labels_to_sample(student, SAMPLES_PER_CLASS * num_classes)
    sample_grid(generate(student, labels, seed=0), columns=num_classes).save(draft / "samples.png")
    (draft / "README.md").write_text(model_card(made.config, statement), encoding="utf-8")
    shutil.rmtree(release, ignore_errors=True)
    os.replace(draft, release)


def load_student(folder: str | Path, *, device: torch.device | str = "cpu") -> Student:
    """Loads a released student.

    Args:
        folder: a release folder, or the run folder that holds it.

    Raises:
        ValueError: there is no release, or a part of it is missing.
    """
    folder = Path(folder)
    folder = folder / "release" if (folder / "release").is_dir() else folder
    for name in ("config.yaml", "student.safetensors"):
        if not (folder / name).exists():
            raise ValueError(
                f"{folder} is no release: it has no {name}; pass a run folder after `dpsad distill` or baseline"
            )
    config = load_config(ReleaseConfig, base=folder / "config.yaml", overrides=())
    made = Releasable(KINDS[config.kind].new_model(config), config)
    made.model.load_state_dict(load_file(folder / "student.safetensors"))
    made.model.to(torch.device(device))
    return made.student()


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


def _new_started(config: ReleaseConfig) -> StartedDenoiser:
    num, shape = config.num_prototypes, _shape(config)
    empty = Prototypes(torch.empty(num, *shape), torch.empty(num, dtype=torch.int64), torch.empty(num), 0.0)
    return StartedDenoiser(_new_denoiser(config), empty)


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
}


def model_card(config: ReleaseConfig, statement: dict) -> str:
    """The README.md of a release: what it is, how to use it, and what its privacy statement means in plain words."""
    chan, height, width = config.image_shape
    if statement["formal"]:
        claim = (
            f"Formally private: epsilon = {statement['epsilon']:.4g}, delta = {statement['delta']:g}, for one record "
            "added or removed. Whatever anyone computes from this folder, whether a given image was among the records "
            "changes its probability by at most a factor exp(epsilon), up to delta."
        )
    else:
        lines = "\n".join(f"- {reason}" for reason in statement["reasons"])
        nominal = statement.get("nominal_epsilon")
        named = f" Its nominal epsilon, as published, is {nominal:.4g}." if nominal is not None else ""
        claim = f"**NOT formally private.**{named} It must not be shared as if it were:\n\n{lines}"
    classes = f"{len(config.class_names)} classes ({', '.join(config.class_names)})"
    if config.use_labels:
        of_classes, columns = f"of {classes}", "has one class a column"
    else:
        of_classes, columns = f"of any of {classes}, without being told which,", "has samples of any class"
    origin = ""
    if config.fine_tuned < 1:
        origin = (
            f" Records have changed {config.fine_tuned:.1%} of its denoiser's parameters; all others come from public "
            "images."
        )
    uncovered = "\n".join(f"- {item}" for item in statement["not_covered"])
    return f"""# Image generator

Makes {height}x{width} {"grey" if chan == 1 else "colour"} images {of_classes} \
in {KINDS[config.kind].effort(config)}. Trained with dpsad, method `{statement["method"]}`, \
guarantee `{statement["guarantee"]}`.{origin}

## Use

```python
from dpsad import load_student
import torch

student = load_student("release")
images = student.sample(torch.tensor([0, 1, 2]), seeds=[1, 2, 3])  # [3, {chan}, {height}, {width}] in [-1, 1]
```

or `dpsad sample release --num 1000 --out samples/`. The picture `samples.png` {columns}.

## Privacy

{claim}

Not covered:

{uncovered}

All numbers are in `privacy.json`.
"""
