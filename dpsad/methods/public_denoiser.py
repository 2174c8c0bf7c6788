"""Public pretraining: a denoiser of `public_data`, trained once for any number of runs; it costs no privacy."""

from collections.abc import Callable
from pathlib import Path

from dpsad import build, build_rows
from dpsad.commands.sketch import Subject
from dpsad.config import Config
from dpsad.data.records import ImageSet
from dpsad.data.sources import load_images
from dpsad.diffusion.denoiser import Denoiser
from dpsad.methods.method import Opened
from dpsad.privacy.provenance import Provenance
from dpsad.runtime.checkpoint import Checkpoint, save_atomic
from dpsad.runtime.run_folder import Log
from dpsad.training.denoiser import teach
from dpsad.training.denoiser_files import denoiser_state, read_denoiser

LABEL_WEIGHTS = ("network.embed_label.weight", "network.embed_tokens.weight")  # the last column is "no label"

See = Callable[[ImageSet], ImageSet]


def as_they_are(images: ImageSet) -> ImageSet:
    return images


def pretrained(opened: Opened, see: See = as_they_are) -> tuple[Denoiser, Subject]:
    """The denoiser of public images that the run has, or the one at `pretrain.path`, or a new one. Reads no record.

    Args:
        see: what the denoiser sees of images, such as their latents.

    Returns:
        The denoiser, provenance public, and what it makes images of.

    Raises:
        ValueError: public and private images are the same, there is none at `pretrain.path`, it is of another kind, or
            it has seen records.
    """
    config = opened.config
    path = Path(config.pretrain.path or opened.run.private / "pretrained.pt")
    if not path.exists():
        if config.pretrain.path:
            raise ValueError(
                f"no pretrained model at pretrain.path={path}; pass private/pretrained.pt of another run, or leave "
                "pretrain.path out to train one"
            )
        _pretrain(opened, path, see)
    denoiser, provenance, subject, _ = read_denoiser(path, config, parameterisation=config.baseline.parameterisation)
    require_public(f"pretrain.path={path}", provenance)
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


def _pretrain(opened: Opened, path: Path, see: See) -> None:
    config, run = opened.config, opened.run
    images = see(public_images(config))
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
            draw=build.draw_as_they_are(images, device),
            levels=build_rows.baseline_levels(config.baseline),
            generator=build.generator_of(config, "pretrain", device),
            checkpoint=Checkpoint(run.private / "pretrain.checkpoint"),
            log=log,
            precision=config.precision,
        )
    save_atomic(denoiser_state(denoiser, config, Provenance.PUBLIC, subject, parameterisation=parameterisation), path)
    opened.say(f"pretrain: {config.pretrain.steps} steps on {len(images)} public images in {seconds():.0f} s")


def public_images(config: Config) -> ImageSet:
    """The images of `public_data`.

    Raises:
        ValueError: they are the records themselves.
    """
    public, private = config.public_data, config.data
    if [public.source, public.name.lower(), public.path] == [private.source, private.name.lower(), private.path]:
        raise ValueError(
            f"public_data.source={public.source} names the records themselves, and pretraining protects nobody; pass "
            "public images, such as public_data.source=torchvision public_data.name=FashionMNIST public_data.root=..."
        )
    return load_images(public, "train")


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
    weights, shapes = pretrained.state_dict(), {name: weight.shape for name, weight in new.state_dict().items()}
    for name in (name for name in LABEL_WEIGHTS if name in shapes):
        no_label, num_classes = weights[name].shape[1] - 1, shapes[name][1] - 1
        columns = [*(label % no_label for label in range(num_classes)), no_label]
        weights[name] = weights[name][:, columns]
    new.load_state_dict(weights)
    return new
