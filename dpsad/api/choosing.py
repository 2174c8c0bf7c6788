"""Settings of dp-sad for images of which public numbers alone are known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from dpsad.api.forecast import LEGIBLE, noise_on_prototypes
from dpsad.api.minutes import seconds_an_image
from dpsad.data.stated import Form
from dpsad.methods.dp_sad.prototypes import PrototypesConfig
from dpsad.methods.dp_sad.settings import DpSadSettings, RefineConfig
from dpsad.networks.config import NetworkConfig
from dpsad.privacy.budget import MAX_EPSILON
from dpsad.privacy.config import PrivacyConfig
from dpsad.privacy.gaussian import gaussian_mu

# prototypes of a class at each resolution, rounds and shares, the finest first; of mnist, mnist-epsilon1 and digits
LADDERS = (
    ((1, 4, 16, 64), (1, 2, 3, 4), (0.03, 0.1, 0.25, 0.62)),
    ((1, 4, 16), (1, 4, 4), (0.05, 0.35, 0.6)),
    ((1, 4), (2, 4), (0.4, 0.6)),
    ((1,), (1,), (1.0,)),
)
LEAST_RECORDS = 16  # behind a prototype, lest it stand for a few
REFINABLE = 2500  # records times mu: as many as digits have at epsilon 8; below, gradients are noise
LARGE = 50_000  # records times mu from which refinement has the larger part; mnist has 120,000


@dataclass(frozen=True, kw_only=True)
class PublicNumbers:
    """All that settings are chosen by.

    privacy: the budget, and the number of records as it is stated.
    form: number of classes, and shape of images.
    minutes: that training may take, about.
    on_gpu: whether it has a GPU.
    """

    privacy: PrivacyConfig
    form: Form
    minutes: float = 20.0
    on_gpu: bool = False

    @property
    def signal(self) -> float:
        """Records times mu: how far all of them together stand out of the noise on one."""
        mu = gaussian_mu(self.privacy.epsilon, self.privacy.delta) / self.privacy.records_per_person
        return self.privacy.num_records * mu


def chosen(numbers: PublicNumbers) -> dict[str, dict[str, Any]]:
    """Sections of a config: the budget's split, prototypes, refinement, network, teacher, student and more.

    A function of public numbers alone, so that no setting tells of a record.
    """
    refine, split = _refinement(numbers), {"split": 0.4 if numbers.signal >= LARGE else 0.5}
    prototypes = _prototypes(numbers, refine, split)
    if not refine["steps"] or prototypes["per_class"] == (1,):  # all for the prototypes, who have too little
        refine, split = {"steps": 0}, {}
        prototypes = _prototypes(numbers, refine, split)
    network = _network(numbers)
    return {
        "privacy": split,
        "network": network,
        "prototypes": prototypes,
        "augmentation": {"shift": 0.04, "scale": 0.08, "rotation": 4.0},
        **_training(numbers, network),
        "refine": refine,
        "sampler": {"steps": 6, "sigma_max": 20.0 if numbers.form.image_shape[0] == 1 else 40.0},
    }


def mends(numbers: PublicNumbers) -> dict[str, float | None]:
    """What it would take for one shape of each class to be seen, the whole budget being spent on class means.

    Returns:
        epsilon, classes and records, each with the others as they are; None where there is no such epsilon or number.
    """
    noise = _noise_on_means(numbers, numbers.privacy.epsilon)
    most = numbers.form.num_classes if noise <= LEGIBLE else math.floor(numbers.form.num_classes * LEGIBLE / noise)
    low, high = min(numbers.privacy.epsilon, MAX_EPSILON), MAX_EPSILON
    enough = _noise_on_means(numbers, high) <= LEGIBLE
    while enough and high - low > 0.005 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if _noise_on_means(numbers, middle) <= LEGIBLE else (middle, high)
    return {
        "epsilon": _rounded_up(high) if enough else None,
        "classes": most or None,
        "records": math.ceil(_rounded_up(numbers.privacy.num_records * max(1.0, noise / LEGIBLE))),
    }


def _rounded_up(number: float) -> float:
    """To two digits."""
    step = 10.0 ** (math.floor(math.log10(number)) - 1)
    return float(f"{math.ceil(number / step) * step:.2g}")


def _noise_on_means(numbers: PublicNumbers, epsilon: float) -> float:
    per_class, rounds, shares = LADDERS[-1]
    settings = DpSadSettings(
        privacy=replace(numbers.privacy, epsilon=epsilon),
        prototypes=PrototypesConfig(per_class=per_class, rounds=rounds, shares=shares, min_count=1.0),
        refine=RefineConfig(steps=0),
    )
    return noise_on_prototypes(settings, numbers.form, numbers.privacy.num_records)[0].of_shapes


def _prototypes(numbers: PublicNumbers, refine: dict[str, Any], split: dict[str, Any]) -> dict[str, Any]:
    """The finest resolutions of which each can be seen."""
    found: dict[str, Any] = {}
    for per_class, rounds, shares in LADDERS:
        records = numbers.privacy.num_records / numbers.form.num_classes / per_class[-1]
        found = {
            "per_class": per_class,
            "rounds": rounds,
            "shares": shares,
            "clip_rms": 0.5,
            "min_count": float(f"{max(1.0, min(15.0, records / 4)):.3g}"),
        }
        settings = DpSadSettings(
            privacy=replace(numbers.privacy, **split),
            prototypes=PrototypesConfig(**found),
            refine=RefineConfig(**refine),
        )
        noises = noise_on_prototypes(settings, numbers.form, numbers.privacy.num_records)
        if records >= LEAST_RECORDS and all(noise.legible for noise in noises):
            break
    return found


def _refinement(numbers: PublicNumbers) -> dict[str, Any]:
    """Two or three passes over the records in batches of half of them at most; none where gradients would be noise."""
    if numbers.signal < REFINABLE:
        return {"steps": 0}
    num_records = numbers.privacy.num_records
    is_rich = numbers.signal / num_records >= 1
    batch_size = max(1, min(num_records // 2, 3072 if is_rich else 4096))
    steps = round((2.46 if is_rich else 1.64) * num_records / batch_size)
    return {
        "steps": min(48, max(10, steps)),
        "batch_size": batch_size,
        "clip_norm": 0.5,
        "learning_rate": 3e-4 if batch_size < 2048 else 5e-4 if is_rich else 4e-4,
        "sigma_mean": -0.4,
    }


def _network(numbers: PublicNumbers) -> dict[str, Any]:
    side = max(numbers.form.image_shape[1:])
    most = 32 if numbers.on_gpu else 16  # positions along a side
    patch = 2 ** max(0, math.ceil(math.log2(side / most)))
    if numbers.on_gpu:
        return {"channels": 96, "multipliers": (1, 2, 2), "blocks": 2, "patch": patch, "attention": True}
    multipliers = (1, 2) if side / patch < 15 else (1, 2, 2)
    return {"channels": 24 if side <= 12 else 32, "multipliers": multipliers, "patch": patch}


def _training(numbers: PublicNumbers, network: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """As many steps of the teacher as half of the minutes allow, within what presets have."""
    batch_size, least, most = (256, 2000, 20_000) if numbers.on_gpu else (128, 300, 3500)
    seconds = seconds_an_image(NetworkConfig(**network), numbers.form, on_gpu=numbers.on_gpu)
    steps = int(float(f"{numbers.minutes * 60 * 0.5 / (batch_size * seconds):.1e}"))
    teacher = {"batch_size": batch_size, "learning_rate": 5e-4 if numbers.on_gpu else 2e-3}
    return {
        "teacher": {"steps": max(least, min(most, steps)), **teacher, "sigma_mean": -0.4, "label_dropout": 0.0},
        "student": {"steps": 2000 if numbers.on_gpu else 200, "batch_size": batch_size},
    }
