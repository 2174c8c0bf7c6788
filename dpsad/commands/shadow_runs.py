"""Runs of a config on records of an auditor's choice: with canaries among them, or on random halves."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from dpsad.api.config import Config
from dpsad.api.launch import opened, release
from dpsad.audit.membership import area_under_curve, likelihood_ratios, true_positive_rates
from dpsad.audit.one_run import best_guess
from dpsad.audit.result import CanaryFinding, MembershipFinding
from dpsad.data.records import ImageSet
from dpsad.diffusion.denoiser import Denoiser, denoising_loss
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.release.export import load_student
from dpsad.runtime.log import Say
from dpsad.runtime.run_folder import Run
from students.base import Student
from students.from_prototypes import StartedDenoiser
from students.sampling import even_labels, generate

Train = Callable[[ImageSet], Student]  # private records -> what is released
BY_LOSS = "denoising loss of the released student"
BY_SAMPLES = "distance from the nearest of 2,000 released samples of its class"
FALSE_POSITIVE_RATES = (0.01, 0.001)
_SAMPLES, _CHUNK = 2_000, 500
_LEVELS, _DRAWS = (0.1, 0.3, 0.6, 1.0), 8


def trainer(config: Config, say: Say) -> Train:
    """Trains as the run was trained, every stage that records enter anew, in folders that go when it is done.

    What was learned from public images alone is taken from the run, where it is there.
    """
    run = Run(Path(config.run))
    config = replace(config, teacher=replace(config.teacher, path=None))
    if config.pretrain.path is None and run.public_denoiser.exists():
        config = replace(config, pretrain=replace(config.pretrain, path=str(run.public_denoiser)))

    def train(records: ImageSet) -> Student:
        run.private.mkdir(mode=0o700, exist_ok=True)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="audit-", dir=run.private) as folder:
            of_shadow = replace(config, run=str(Path(folder) / "run"))
            with opened(of_shadow, lambda line: None, load_records=lambda: records) as context:
                release(of_shadow, context, of_shadow.trained_by().train)
            say(f"a run for the audit: trained in {time.perf_counter() - start:.0f} s")
            return load_student(of_shadow.run, device=context.device)

    return train


def audit_canaries(
    train: Train,
    records: ImageSet,
    num: int,
    *,
    claimed_epsilon: float | None,
    nominal: bool,
    delta: float,
    confidence: float,
) -> CanaryFinding:
    """One run on the records and canaries, each of which joins by the toss of a coin.

    Args:
        num: canaries, images of random black and white pixels, evenly over the classes.

    Formal guarantee: the bound exceeds the true epsilon with probability 1 - confidence at most, whatever the canaries
    look like and however they are scored.

    Source: Steinke et al. 2023, Algorithm 1.
    """
    start, coins = time.perf_counter(), PrivateRandomness()
    pixels = (coins.uniform(num * records.images[0].numel()) < 0.5).float() * 2 - 1
    canaries = ImageSet(
        images=pixels.reshape(num, *records.image_shape),
        labels=even_labels(num, records.num_classes),
        ids=tuple(f"canary {index}" for index in range(num)),
        class_names=records.class_names,
    )
    included = coins.uniform(num) < 0.5
    scores, score = familiarity(train(joined(records, canaries.take(included))), canaries.images, canaries.labels)
    guesses, epsilon = best_guess(scores, included.numpy(), delta=delta, confidence=confidence)
    return CanaryFinding(
        claimed_epsilon=claimed_epsilon,
        nominal=nominal,
        delta=delta,
        confidence=confidence,
        num_canaries=num,
        num_guesses=guesses.num_guesses,
        num_correct=guesses.num_correct,
        epsilon=epsilon,
        refuted=claimed_epsilon is not None and epsilon > claimed_epsilon,
        score=score,
        seconds=time.perf_counter() - start,
    )


def infer_membership(train: Train, records: ImageSet, num_shadows: int) -> MembershipFinding:
    """Shadow runs on random halves of the records; each run's members are guessed with the help of all others.

    Args:
        num_shadows: runs, at least 3.

    Raises:
        ValueError: fewer.
    """
    if num_shadows < 3:
        raise ValueError(
            f"--shadows {num_shadows} is too few to tell members from others; use 3 or more, or 0 for none"
        )
    start, coins = time.perf_counter(), PrivateRandomness()
    included, scores, score = [], [], ""
    for _ in tqdm(range(num_shadows), desc="audit, shadow runs", unit="run"):
        half = coins.uniform(len(records)) < 0.5
        known, score = familiarity(train(records.take(half)), records.images, records.labels)
        included.append(half.numpy())
        scores.append(known)
    members = np.stack(included)
    ratios = likelihood_ratios(np.stack(scores), members)
    return MembershipFinding(
        num_shadows=num_shadows,
        num_records=len(records),
        area=area_under_curve(ratios, members),
        true_positive_rates=true_positive_rates(ratios, members, FALSE_POSITIVE_RATES),
        score=score,
        seconds=time.perf_counter() - start,
    )


def familiarity(student: Student, images: Tensor, labels: Tensor) -> tuple[np.ndarray, str]:
    """How well a released student knows images, by whatever it is made of: [images], higher is better; and by what."""
    model = student.model.denoiser if isinstance(student.model, StartedDenoiser) else student.model
    if isinstance(model, Denoiser):
        return -_losses(model, images, labels, student.device), BY_LOSS
    classes = even_labels(_SAMPLES * len(student.class_names), len(student.class_names))
    samples = generate(student, classes, seed=0)
    distances = np.zeros(len(images))
    for label in labels.unique().tolist():
        own = labels == label
        of_class = samples[classes == label] if student.use_labels else samples
        distances[own.numpy()] = torch.cdist(images[own].flatten(1), of_class.flatten(1)).amin(1).numpy()
    return -distances, BY_SAMPLES


@torch.no_grad()
def _losses(denoiser: Denoiser, images: Tensor, labels: Tensor, device: torch.device) -> np.ndarray:
    """[images] mean denoising loss over fixed levels and draws, the same for every student."""
    total = torch.zeros(len(images), dtype=torch.float64)
    noise = torch.Generator().manual_seed(0)
    for level in _LEVELS * _DRAWS:
        for index in torch.arange(len(images)).split(_CHUNK):
            drawn = torch.randn(len(index), *images.shape[1:], generator=noise)
            sigma = torch.full((len(index),), level)
            parts = (part.to(device) for part in (images[index], sigma, drawn, labels[index]))
            total[index] += denoising_loss(denoiser, *parts).cpu()
    return (total / (len(_LEVELS) * _DRAWS)).numpy()


def joined(records: ImageSet, more: ImageSet) -> ImageSet:
    """Both sets, of the same classes."""
    return replace(
        records,
        images=torch.cat([records.images, more.images]),
        labels=torch.cat([records.labels, more.labels]),
        ids=(*records.ids, *more.ids),
    )
