"""Whether samples lie closer to training images than to held-out ones; computed from records without protection."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dpsad.evaluation.neighbours import nearest

NUM_PERMUTATIONS = 19_999
FALSE_ALARM_RATE = 1e-3
CAVEAT = (
    "No alarm is no proof of privacy: the test sees a generator that copies many training images, not one that "
    "betrays a few; only the privacy statement bounds that. An alarm means memorisation only if training and held-out "
    "images come from one source, which the test takes for granted. The answer itself was computed from the records "
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
        p_value: chance of such a share or a larger one if it were random which images are training images.
    """

    train_distance: Tensor
    train_index: Tensor
    held_out_distance: Tensor
    held_out_index: Tensor
    share: float
    expected_share: float
    p_value: float


def closeness(
    samples: Tensor, train: Tensor, held_out: Tensor, *, seed: int, device: torch.device | str = "cpu"
) -> Closeness:
    """Tests, one-sided, whether samples lie closer to training images than to held-out ones.

    If nothing but the distribution was learned, training and held-out images are exchangeable, and so are their names:
    the share of samples whose nearest image is a training image is compared with the shares that random renamings of
    the same images give. That samples share neighbours, and that the sets differ in size, is thereby accounted for.
    The vectors must not themselves tell the sets apart: pixels, or features of a network that saw neither set or only
    the samples.

    Args:
        samples: [num, dim].
        train: [num_train, dim].
        held_out: [num_held_out, dim].
        seed: of the renamings and of ties.
        device: where distances are computed, in chunks.

    False alarms: under exchangeability, p_value <= level with probability at most level, for every level.
    """
    generator = np.random.default_rng(seed)
    train_distance, train_index = nearest(samples, train, device=device)
    held_out_distance, held_out_index = nearest(samples, held_out, device=device)
    tie = torch.from_numpy(generator.random(len(samples)) < 0.5)
    closer = (train_distance < held_out_distance) | ((train_distance == held_out_distance) & tie)
    pool_index = torch.where(closer, train_index, len(train) + held_out_index)
    followers = torch.bincount(pool_index, minlength=len(train) + len(held_out)).numpy()  # samples that an image draws
    # A renaming draws num_train of the images; what counts is how many it draws of those with 0, 1, 2, ... followers.
    renamed = generator.multivariate_hypergeometric(np.bincount(followers), len(train), size=NUM_PERMUTATIONS)
    shares = renamed @ np.arange(renamed.shape[1])
    as_large = int((shares >= int(closer.sum())).sum())
    return Closeness(
        train_distance=train_distance,
        train_index=train_index,
        held_out_distance=held_out_distance,
        held_out_index=held_out_index,
        share=closer.double().mean().item(),
        expected_share=len(train) / (len(train) + len(held_out)),
        p_value=(1 + as_large) / (1 + NUM_PERMUTATIONS),
    )


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
            "p_value": space.p_value,
            "train_distance": space.train_distance.tolist(),
            "train_index": space.train_index.tolist(),
            "held_out_distance": space.held_out_distance.tolist(),
            "held_out_index": space.held_out_index.tolist(),
        }
        for name, space in measured.items()
    }
