"""Public pretraining: a denoiser of `public_data`, trained once for any number of runs; it costs no privacy."""

from pathlib import Path

from dpsad import build
from dpsad.baselines.method import Opened
from dpsad.checkpoint import Checkpoint, save_atomic
from dpsad.data.augmentation import AugmentationConfig
from dpsad.data.config import DataConfig
from dpsad.data.sources import load_images
from dpsad.denoiser_files import denoiser_state, read_denoiser
from dpsad.diffusion.denoiser import Denoiser
from dpsad.privacy.provenance import Provenance
from dpsad.runs import Log
from dpsad.sketching import Subject
from dpsad.stages.teach import teach

LABEL_WEIGHT = "network.embed_label.weight"


def pretrained(opened: Opened) -> tuple[Denoiser, Subject]:
    """The denoiser of public images that the run has, or the one at `pretrain.path`, or a new one. Reads no record.

    Returns:
        The denoiser, provenance public, and what it makes images of.

    Raises:
        ValueError: there is none at `pretrain.path`, it is of another kind, or it has seen records.
    """
    config = opened.config
    path = Path(config.pretrain.path or opened.run.private / "pretrained.pt")
    if not path.exists():
        if config.pretrain.path:
            raise ValueError(
                f"no pretrained model at pretrain.path={path}; pass private/pretrained.pt of another run, or leave "
                "pretrain.path out to train one"
            )
        _pretrain(opened, path)
    denoiser, provenance, subject, _ = read_denoiser(path, config, parameterisation=config.baseline.parameterisation)
    if provenance is not Provenance.PUBLIC:
        raise ValueError(
            f"pretrain.path={path} has provenance '{provenance.value}': it has seen records, and nothing here would "
            "account for them; pass a model that was trained on public images alone"
        )
    return denoiser, subject


def _pretrain(opened: Opened, path: Path) -> None:
    config, run = opened.config, opened.run
    _require_other_images(config.public_data, config.data)
    images = load_images(config.public_data, "train")
    subject, device = Subject.of(images), build.device_of(config)
    parameterisation = config.baseline.parameterisation
    log = Log(run, "pretrain", config.log)
    with log.timed(build.hardware_of(device)) as seconds:
        denoiser = teach(
            "pretrain",
            config.pretrain,
            denoiser=build.build_denoiser(
                config, subject.image_shape, images.num_classes, "pretrain", parameterisation=parameterisation
            ),
            num_classes=images.num_classes,
            draw=build.draw_from_images(images, AugmentationConfig(), device),
            levels=build.baseline_levels(config.baseline),
            generator=build.generator_of(config, "pretrain", device),
            checkpoint=Checkpoint(run.private / "pretrain.checkpoint"),
            log=log,
            precision=config.precision,
        )
    save_atomic(denoiser_state(denoiser, config, Provenance.PUBLIC, subject, parameterisation=parameterisation), path)
    opened.say(f"pretrain: {config.pretrain.steps} steps on {len(images)} public images in {seconds():.0f} s")


def _require_other_images(public: DataConfig, private: DataConfig) -> None:
    if [public.source, public.name.lower(), public.path] == [private.source, private.name.lower(), private.path]:
        raise ValueError(
            f"public_data.source={public.source} names the records themselves, and pretraining protects nobody; pass "
            "public images, such as public_data.source=torchvision public_data.name=FashionMNIST public_data.root=..."
        )


def with_new_classes(pretrained: Denoiser, new: Denoiser) -> Denoiser:
    """Gives a denoiser of the records' classes the pretrained weights.

    Public classes are not private ones. The network has learned to tell its own labels apart, though, so each new class
    starts at the embedding of a public one, in turn, and "no label" at that of "no label"; records decide what becomes
    of them.

    Args:
        pretrained, new: of the same network and image channels, of any number of classes.

    Returns:
        `new`.
    """
    weights, num_classes = pretrained.state_dict(), new.state_dict()[LABEL_WEIGHT].shape[1] - 1
    no_label = weights[LABEL_WEIGHT].shape[1] - 1
    columns = [*(label % no_label for label in range(num_classes)), no_label]
    new.load_state_dict({**weights, LABEL_WEIGHT: weights[LABEL_WEIGHT][:, columns]})
    return new
