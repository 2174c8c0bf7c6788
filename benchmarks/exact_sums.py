"""What exact sums and exactly rounded noise cost: python benchmarks/exact_sums.py [records]

Each step is made in turn with the sanitizer's sums and noise, and with sums and noise in float32, which bound nothing
to the last bit: gradient rows of denoisers of three sizes with one and two noise draws a record, and prototypes of
28x28 images. Prints medians of the processor's time on a CPU, of the clock's on a GPU, and their ratio, and how long
noise alone takes.
"""

import platform
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from statistics import median

import torch
from torch import Tensor

from dpsad.diffusion.denoiser import Denoiser, denoising_loss
from dpsad.methods.dp_sad.prototype_rows import record_rows
from dpsad.methods.dp_sad.prototypes import propose_prototypes
from dpsad.networks.config import NetworkConfig
from dpsad.networks.unet import UNet
from dpsad.privacy.clipping import BlockRows, PartedRows, clip_scale
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.per_example_gradients import per_example_gradients, trainable_parameters
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer

ROUNDS, CHUNK = 5, 32
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PLAN = ReleasePlan(purpose="benchmark", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=2.0, num_releases=1000)
Release = Callable[[Iterable[BlockRows | PartedRows], tuple[int, ...]], Tensor]


def release_in_float32(chunks: Iterable[BlockRows | PartedRows], shape: tuple[int, ...]) -> Tensor:
    """Clipped sums and noise as float32 has them."""
    total = torch.zeros(shape, device=DEVICE)
    for rows in chunks:
        if isinstance(rows, BlockRows):
            total.index_add_(0, rows.block, rows.values * clip_scale(rows.values.norm(dim=1), 1.0)[:, None])
            continue
        norms = torch.stack([torch.linalg.vector_norm(part, dim=1) for part in rows.parts])
        scale = clip_scale(norms.norm(dim=0), 1.0)
        for part, into in zip(rows.parts, total.split([part.shape[1] for part in rows.parts]), strict=True):
            into += scale @ part.float()
    return total.add_(PrivateRandomness(DEVICE).normal(shape), alpha=PLAN.noise_scale)


def gradient_step(records: int, draws: int, config: NetworkConfig) -> tuple[str, Callable[[Release], object]]:
    """A release of gradient rows."""
    rng = torch.Generator(DEVICE).manual_seed(0)
    denoiser = Denoiser(UNet(config, image_channels=1, num_classes=10)).to(DEVICE)
    size = sum(parameter.numel() for parameter in trainable_parameters(denoiser))
    images = torch.rand(records, 1, 28, 28, generator=rng, device=DEVICE) * 2 - 1
    noise = torch.randn(draws * CHUNK, 1, 28, 28, generator=rng, device=DEVICE)
    labels, sigma = torch.arange(CHUNK, device=DEVICE).repeat(draws) % 10, torch.ones(draws * CHUNK, device=DEVICE)

    def rows(chunk: Tensor) -> PartedRows:
        views = chunk.repeat(draws, 1, 1, 1)
        return per_example_gradients(
            denoiser, lambda: denoising_loss(denoiser, views, sigma, noise, labels), len(chunk)
        )

    name = f"gradient rows, {size} weights, {draws} draw{'s' if draws > 1 else ''}"
    return name, lambda release: release(map(rows, images.split(CHUNK)), (size,))


def prototype_step(records: int) -> tuple[str, Callable[[Release], object]]:
    """A release of prototypes, 64 a class."""
    rng = torch.Generator(DEVICE).manual_seed(0)
    images = torch.rand(records, 1, 28, 28, generator=rng, device=DEVICE) * 2 - 1
    proposal = propose_prototypes(torch.rand(10, 64, 1, 28, 28, generator=rng, device=DEVICE) - 0.5)
    by_class = list((torch.arange(records, device=DEVICE)).chunk(10))

    def step(release: Release) -> object:
        return release(record_rows(images, by_class, proposal, 10.0, 0.1), (640, 785))

    return f"prototypes, {records} records", step


def main() -> None:
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 128
    clock = time.perf_counter if DEVICE.type == "cuda" else time.process_time
    sanitizer = Sanitizer(PLAN, Ledger(500.0, 1e-5), PrivateRandomness(DEVICE))

    def seconds(run: Callable[[], object]) -> float:
        start = clock()
        run()
        if DEVICE.type == "cuda":
            torch.cuda.synchronize()
        return clock() - start

    steps = [
        gradient_step(records, draws, NetworkConfig(patch=2, channels=channels))
        for channels in (32, 72, 120)
        for draws in (1, 2)
    ]
    print(f"{platform.processor() or platform.machine()}, {DEVICE}, {torch.get_num_threads()} threads")
    print(f"{'step':46} {'exact ms':>9} {'float32 ms':>11} {'ratio':>6}")
    for name, step in [*steps, prototype_step(20_000)]:
        taken = [
            [seconds(partial(step, way)) for way in (sanitizer.release, release_in_float32)] for _ in range(ROUNDS)
        ]
        exact, inexact = (median(times) for times in zip(*taken, strict=True))
        print(f"{name:46} {exact * 1e3:9.0f} {inexact * 1e3:11.0f} {exact / inexact:6.2f}", flush=True)
    randomness, size = PrivateRandomness(DEVICE), (5_000_000,)
    exact = median(seconds(lambda: randomness.rounded_normal(size, 2.0**25)) for _ in range(ROUNDS))
    inexact = median(seconds(lambda: randomness.normal(size)) for _ in range(ROUNDS))
    public = median(seconds(lambda: torch.randn(size, device=DEVICE)) for _ in range(ROUNDS))
    print(f"{'noise, 5 million numbers':46} {exact * 1e3:9.0f} {inexact * 1e3:11.0f} {exact / inexact:6.2f}")
    print(f"  secret normal numbers of float32: {inexact / public:.2f} times torch.randn, {public * 1e3:.0f} ms")


if __name__ == "__main__":
    main()
