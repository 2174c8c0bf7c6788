"""Rehearsal of dp-sad: what would stop it after prototypes were released, from public numbers."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from dpsad.data.records import Subject
from dpsad.diffusion.denoiser import Denoiser
from dpsad.methods.dp_sad.settings import DpSadSettings
from dpsad.methods.dp_sad.student import releasable_student
from dpsad.methods.method import Held, Rehearsal, require_records_for, rows_held
from dpsad.networks.classifiers import CnnTrunk
from dpsad.networks.features.backbone import BACKBONES, load_backbone
from dpsad.networks.network import new_network
from dpsad.training.private_denoiser import gradient_plan
from students.guide import FEATURES
from students.prototypes import Prototypes

LEAST_SIDE = 8  # of images that a discriminator halves three times


def rehearse(settings: DpSadSettings, subject: Subject, num_records: int) -> Rehearsal:
    """An untrained student; refuses what discriminators, the guide, rows and shards could not do with such images."""
    if settings.data.pseudo_labels:  # clusters are the classes then
        subject = replace(subject, class_names=tuple(map(str, range(settings.data.pseudo_labels))))
    by_shards = settings.guarantee == "shards"
    if by_shards:
        require_records_for("shards.num_shards", settings.shards.num_shards, num_records)
    if settings.refine.steps and settings.guarantee != "nominal":
        gradient_plan("refine", "", settings.refine, num_records)
    _require_sides(settings, subject)
    if settings.guide.share:
        for kind in settings.guide.features:
            _require_feature(settings, subject, kind)
    if settings.shorten.steps:
        _require_classifiable(settings, subject)
    network = new_network(
        settings.network,
        image_channels=subject.image_shape[0],
        num_classes=subject.num_classes,
        use_labels=settings.student.use_labels,
    )
    grey = _grey_prototypes(settings, subject) if settings.guarantee != "nominal" and settings.uses_prototypes else None
    made = releasable_student(settings, Denoiser(network), subject, grey)
    kept = 0 if grey is None else grey.images.numel()
    return Rehearsal(made=made, held=tuple(_held(settings, subject, network)), kept=4.0 * kept)


def _require_sides(settings: DpSadSettings, subject: Subject) -> None:
    """Refuses images too small for discriminators, whose last level would have less than a pixel."""
    keys = ["student.adversarial_weight"] if settings.student.adversarial_weight else []
    keys += ["discriminator.feature_matching"] if settings.discriminator.feature_matching else []
    by_teachers = settings.guarantee == "shards" and settings.shards.teacher != "none"
    keys += ["shards.adversarial_weight"] if by_teachers and settings.shards.adversarial_weight else []
    height, width = subject.image_shape[1:]
    if keys and min(height, width) < LEAST_SIDE:
        raise ValueError(
            f"images of {height}x{width} pixels are too small for a discriminator, which halves them three times; pass "
            f"{' and '.join(f'{key}=0' for key in keys)}, or data.image_size={LEAST_SIDE}"
        )


def _require_feature(settings: DpSadSettings, subject: Subject, kind: str) -> None:
    """Refuses features of the guide that such images do not have, or whose weights are not there."""
    try:
        if kind in BACKBONES:
            assert settings.guide.weights is not None  # the config refuses that
            load_backbone(subject.image_shape, kind, Path(settings.guide.weights))
        else:
            FEATURES[kind](subject.image_shape)(torch.zeros(1, *subject.image_shape))
    except ValueError as error:
        named = f"guide.features={list(settings.guide.features)}"
        raise ValueError(f"{named}: {error}; or pass other features, or guide.share=0") from None


def _require_classifiable(settings: DpSadSettings, subject: Subject) -> None:
    """Refuses images too small for the classifier by which a student learns to take fewer steps."""
    try:
        CnnTrunk(subject.image_shape)
    except ValueError as error:
        raise ValueError(f"shorten.steps={settings.shorten.steps}: {error}; or pass shorten.steps=0") from None


def _grey_prototypes(settings: DpSadSettings, subject: Subject) -> Prototypes:
    """As many as the run will release, all grey."""
    by_teachers = settings.guarantee == "shards" and settings.shards.teacher != "none"
    number = settings.shards.queries if by_teachers else settings.prototypes.per_class[-1]
    labels = torch.arange(subject.num_classes).repeat_interleave(number)
    return Prototypes(torch.zeros(len(labels), *subject.image_shape), labels, torch.ones(len(labels)), 0.0)


def _held(settings: DpSadSettings, subject: Subject, network: torch.nn.Module) -> Iterator[Held]:
    num_parameters = sum(weight.numel() for weight in network.parameters())
    refine, shards = settings.refine, settings.shards
    if refine.steps and settings.guarantee != "nominal":
        yield rows_held("refine", min(refine.chunk_size, refine.batch_size), num_parameters)
    num_pixels, guide, shorten = math.prod(subject.image_shape), settings.guide, settings.shorten
    if guide.share:
        said = f"guide.images={guide.images}: so many samples"
        yield Held(num_bytes=4.0 * guide.images * num_pixels, what=said, mend="lower guide.images")
    if shorten.steps:
        said = f"shorten.images={shorten.images}: so many samples, and what each began as,"
        yield Held(num_bytes=8.0 * shorten.images * num_pixels, what=said, mend="lower shorten.images")
    if settings.guarantee == "shards" and shards.teacher == "denoisers":
        of_one = new_network(shards.network, image_channels=subject.image_shape[0], num_classes=subject.num_classes)
        num_weights = shards.num_shards * sum(weight.numel() for weight in of_one.parameters())
        said = f"shards.num_shards={shards.num_shards}: denoisers of {shards.network.channels} shards.network.channels"
        yield Held(num_bytes=16.0 * num_weights, what=said, mend="lower one of these")
