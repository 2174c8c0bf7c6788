"""U-Net against transformer at equal time: python benchmarks/network_kinds.py data [seconds] [names of contenders...]

Each trains on MNIST as teachers do, without protection, for as many seconds of processor time, on one thread and one
after the other; other work on the machine is left out of the count. Learning rates fall to nothing in that time. Prints
the denoising loss on held-out training images, and medians of a step of training and of one pass of per-example
gradient rows, with ratios to the first contender named.
"""

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import mean, median

import torch
from torch import Tensor

from dpsad.data.config import DataConfig
from dpsad.data.records import ImageSet
from dpsad.data.sources import load_images
from dpsad.diffusion.denoiser import Denoiser, denoising_loss, drop_labels
from dpsad.diffusion.noise_levels import lognormal_levels
from dpsad.networks.config import NetworkConfig
from dpsad.networks.network import new_network
from dpsad.privacy.per_example_gradients import per_example_gradients
from dpsad.runtime.precision import autocast

SECONDS, BATCH, WARM_UP, HELD_OUT, DRAWS, ROUNDS = 180.0, 128, 100, 2_000, 4, 9
LEARNING_RATE = 1e-3
CPU = torch.device("cpu")
CONTENDERS = {
    "unet, patch 2": NetworkConfig(channels=32, patch=2),
    "transformer, patch 2": NetworkConfig(kind="transformer", channels=64, blocks=4, patch=2),
    "transformer, patch 4": NetworkConfig(kind="transformer", channels=64, blocks=4, patch=4),
    "wide transformer, patch 4": NetworkConfig(kind="transformer", channels=128, blocks=4, patch=4),
}


@dataclass(frozen=True)
class Outcome:
    """parameters: how many. steps: made in the time. loss: on held-out images. step, rows: seconds of one."""

    parameters: int
    steps: int
    loss: float
    step: float
    rows: float


def seconds_of(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def new_denoiser(config: NetworkConfig) -> Denoiser:
    torch.manual_seed(0)
    return Denoiser(new_network(config, image_channels=1, num_classes=10))


def train(denoiser: Denoiser, images: Tensor, labels: Tensor, seconds: float) -> list[float]:
    """Trains for that long; returns the seconds of every step."""
    rng = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(denoiser.parameters())
    taken: list[float] = []

    def step() -> None:
        share = sum(taken) / seconds
        rate = LEARNING_RATE * min(1, (len(taken) + 1) / WARM_UP) * (1 + math.cos(math.pi * share)) / 2
        optimizer.param_groups[0]["lr"] = rate
        index = torch.randint(len(images), (BATCH,), generator=rng)
        sigma = lognormal_levels(BATCH, mean=-0.8, std=1.2, rng=rng)
        noise = torch.randn(BATCH, *images.shape[1:], generator=rng)
        told = drop_labels(labels[index], 10, 0.1, rng)
        with autocast(CPU):
            loss = denoising_loss(denoiser, images[index], sigma, noise, told).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    while sum(taken) < seconds:
        taken.append(seconds_of(step))
    return taken


@torch.no_grad()
def held_out_loss(denoiser: Denoiser, images: Tensor, labels: Tensor) -> float:
    """Mean over the same draws for every contender, in float32."""
    rng = torch.Generator().manual_seed(2)
    losses = []
    for _ in range(DRAWS):
        for some, told in zip(images.split(500), labels.split(500), strict=True):
            sigma = lognormal_levels(len(some), mean=-0.8, std=1.2, rng=rng)
            noise = torch.randn(some.shape, generator=rng)
            losses.append(denoising_loss(denoiser, some, sigma, noise, told).mean().item())
    return mean(losses)


def seconds_of_rows(denoiser: Denoiser, images: Tensor, labels: Tensor) -> float:
    """Median of one pass over a batch, without clipping and noise, which cost the same for all but for their length."""
    sigma, noise = torch.full((BATCH,), 0.5), torch.randn(images[:BATCH].shape)

    def losses() -> Tensor:
        with autocast(CPU):
            return denoising_loss(denoiser, images[:BATCH], sigma, noise, labels[:BATCH])

    return median(seconds_of(lambda: per_example_gradients(denoiser, losses, BATCH)) for _ in range(ROUNDS))


def outcome_of(config: NetworkConfig, records: ImageSet, seconds: float) -> Outcome:
    denoiser = new_denoiser(config)
    taken = train(denoiser, records.images[:-HELD_OUT], records.labels[:-HELD_OUT], seconds)
    held_out = records.images[-HELD_OUT:], records.labels[-HELD_OUT:]
    return Outcome(
        sum(parameter.numel() for parameter in denoiser.parameters()),
        len(taken),
        held_out_loss(denoiser, *held_out),
        median(taken),
        seconds_of_rows(denoiser, *held_out),
    )


def main() -> None:
    root, *rest = sys.argv[1:]
    seconds, names = float(rest[0]) if rest else SECONDS, rest[1:] or list(CONTENDERS)
    torch.set_num_threads(1)  # so that processor time is the time that passes
    records = load_images(DataConfig(source="torchvision", name="MNIST", root=root), "train")
    print(f"MNIST, batches of {BATCH}, {seconds:g} s each, one thread, as autocast chooses")
    heads = ("parameters", "steps", "held-out loss", "ratio", "ms a step", "ratio", "ms of rows", "ratio")
    print(f"{'':28}" + " ".join(f"{head:>13}" for head in heads))
    first = None
    for name in names:
        made = outcome_of(CONTENDERS[name], records, seconds)
        first = first or made
        figures = f"{made.parameters:13,} {made.steps:13,} {made.loss:13.4f} {made.loss / first.loss:13.3f}"
        times = " ".join(
            f"{here * 1e3:13.1f} {here / there:13.2f}"
            for here, there in ((made.step, first.step), (made.rows, first.rows))
        )
        print(f"{name:28}{figures} {times}", flush=True)


if __name__ == "__main__":
    main()
