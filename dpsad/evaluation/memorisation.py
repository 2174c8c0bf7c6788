"""Memorisation test: whether samples lie closer to training images than to held-out ones."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpsad.evaluation.neighbours import nearest

NUM_RENAMINGS = 19_999
MAX_CONTROLS = 10_000
FALSE_ALARM_RATE = 1e-3
CAVEAT = (
    "No alarm is no proof of privacy: the test sees a generator that copies many training images, not one that "
    "betrays a few; only the privacy statement bounds that. A difference between the training and the "
    "held-out set is discounted as far as training images show it among themselves, and may otherwise be taken for "
    "memorisation. The answer itself was computed from the records "
    "without protection; the privacy statement does not cover it."
)


@dataclass(frozen=True, kw_only=True)
class Closeness:
    """Where samples lie between the training images and as yet unseen ones. Private.

    Attributes:
        train_distance, train_index: [num] distance to the nearest training image, and which it is.
        held_out_distance, held_out_index: [num] likewise among the held-out images.
        share: of samples whose nearest image of all is a training image; ties are drawn.
        expected_share: of training images among all, which `share` is near to where nothing is memorised.
        control_share: as `share`, of training images that look for the nearest of the others.
        p_value: chance of so large a share, less what `control_share` has above `expected_share`, if it were random
            which images are training images.
    """

    train_distance: Tensor
    train_index: Tensor
    held_out_distance: Tensor
    held_out_index: Tensor
    share: float
    expected_share: float
    control_share: float
    p_value: float


def closeness(
    samples: Tensor, train: Tensor, held_out: Tensor, *, seed: int, device: torch.device | str = "cpu"
) -> Closeness:
    """Tests, one-sided, whether samples lie closer to training images than to held-out ones.

    If nothing but the distribution was learned, training and held-out images are exchangeable, and so are their names:
    see `renaming_p_value`. Where the two sets differ, as those of MNIST do by their writers, even a perfect generator
    lies closer to the one it learned from. So do training images to each other: what they show, up to 10,000 of them,
    is discounted.

    The vectors must not themselves tell the sets apart: pixels, or features of a network that saw neither set or only
    the samples.

    Args:
        samples: [num, dim].
        train: [num_train, dim], two or more.
        held_out: [num_held_out, dim].
        seed: of renamings, ties and the choice of training images for the discount.
        device: where distances are computed, in chunks.

    False alarms: under exchangeability, p_value <= level with probability at most level, for every level.
    """
    rng = np.random.default_rng(seed)
    train_distance, train_index = nearest(samples, train, device=device)
    held_out_distance, held_out_index = nearest(samples, held_out, device=device)
    closer = _closer(train_distance, held_out_distance, rng)

    controls = torch.from_numpy(rng.permutation(len(train))[:MAX_CONTROLS])
    control_distance, _ = nearest(train[controls], train, own=controls, device=device)
    control_held_out_distance, _ = nearest(train[controls], held_out, device=device)
    control_share = _closer(control_distance, control_held_out_distance, rng).double().mean().item()

    num_images = len(train) + len(held_out)
    expected_share = len(train) / num_images
    return Closeness(
        train_distance=train_distance,
        train_index=train_index,
        held_out_distance=held_out_distance,
        held_out_index=held_out_index,
        share=closer.double().mean().item(),
        expected_share=expected_share,
        control_share=control_share,
        p_value=renaming_p_value(
            torch.where(closer, train_index, len(train) + held_out_index),
            num_train=len(train),
            num_images=num_images,
            discount=max(0.0, control_share - expected_share),
            rng=rng,
        ),
    )


def renaming_p_value(
    nearest_image: Tensor, *, num_train: int, num_images: int, discount: float = 0.0, rng: np.random.Generator
) -> float:
    """Chance that as many samples are nearest to a training image when images are called that at random.

    That samples share a nearest image, and that there are more training than held-out images, is thereby accounted for.

    Args:
        nearest_image: [num] of `num_images` images, of which the first `num_train` are the training images.
        discount: subtracted from the share of samples at training images, >= 0.
        rng: of 19,999 renamings.

    Returns:
        p-value in (0, 1], exact for finite numbers of renamings.

    Source: Phipson & Smyth 2010, equation 2.
    """
    followers = torch.bincount(nearest_image, minlength=num_images).numpy()  # samples that an image draws
    # A renaming picks num_train images. What counts is how many it picks of those with 0, 1, 2, ... followers.
    picked = rng.multivariate_hypergeometric(np.bincount(followers), num_train, size=NUM_RENAMINGS)
    counts = picked @ np.arange(picked.shape[1])
    observed = int((nearest_image < num_train).sum()) - discount * len(nearest_image)
    return (1 + int((counts >= observed).sum())) / (1 + NUM_RENAMINGS)


def _closer(to_train: Tensor, to_held_out: Tensor, rng: np.random.Generator) -> Tensor:
    """[num] distances -> [num] whether the first is smaller; ties are drawn."""
    heads = torch.from_numpy(rng.random(len(to_train)) < 0.5)
    return (to_train < to_held_out) | ((to_train == to_held_out) & heads)


def verdict(measured: dict[str, Closeness]) -> dict:
    """Yes or no over several spaces, with its caveat; no number about a record.

    The false alarm rate is shared out evenly over the spaces.
    """
    level = FALSE_ALARM_RATE / len(measured)
    return {
        "closer_to_training": any(space.p_value <= level for space in measured.values()),
        "false_alarm_rate": FALSE_ALARM_RATE,
        "num_images": min(len(space.train_distance) for space in measured.values()),
        "spaces": list(measured),
        "caveat": CAVEAT,
    }


def details(measured: dict[str, Closeness]) -> dict:
    """JSON-serialisable dict of everything measured, by space. Private."""
    return {
        name: {
            "share": space.share,
            "expected_share": space.expected_share,
            "control_share": space.control_share,
            "p_value": space.p_value,
            "train_distance": space.train_distance.tolist(),
            "train_index": space.train_index.tolist(),
            "held_out_distance": space.held_out_distance.tolist(),
            "held_out_index": space.held_out_index.tolist(),
        }
        for name, space in measured.items()
    }
