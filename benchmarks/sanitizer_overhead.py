"""What clipping and noise cost a student step: python benchmarks/sanitizer_overhead.py

Prints the ratio of medians of DP-SAD's step (output gradients, clipped and noised) and of the same step without, in one
run. What per-example rows cost is in per_example_gradients.py.
"""

import platform
import time
from collections.abc import Callable
from statistics import median

import torch

from discriminators.choice import DiscriminatorConfig, new_discriminator
from dpsad.diffusion.denoiser import Denoiser
from dpsad.methods.dp_sad.distillation import StudentConfig, output_gradient
from dpsad.methods.dp_sad.nominal_noise import NominalConfig, nominal_noise
from dpsad.methods.dp_sad.queries import propose
from dpsad.networks.config import NetworkConfig
from dpsad.networks.unet import UNet
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.runtime.precision import autocast

ROUNDS = 15


def time_in_turn(first: Callable[[], None], second: Callable[[], None]) -> tuple[float, float]:
    """Median seconds of each, after two warm-up rounds."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS + 2):
        for run, taken in zip((first, second), seconds, strict=True):
            start = time.perf_counter()
            run()
            taken.append(time.perf_counter() - start)
    return median(seconds[0][2:]), median(seconds[1][2:])


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rng = torch.Generator(device).manual_seed(0)
    network = UNet(NetworkConfig(patch=2), image_channels=1, num_classes=10)
    student = Denoiser(network).to(device)
    discriminator = new_discriminator(DiscriminatorConfig(), image_channels=1, num_classes=10).to(device)
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-4)
    images = torch.rand(128, 1, 28, 28, generator=rng, device=device) * 2 - 1
    labels = torch.arange(128, device=device) % 10
    sigma = torch.ones(128, device=device)
    noise = torch.randn(images.shape, generator=rng, device=device)
    randomness = PrivateRandomness(device)
    config = StudentConfig(data_weight=1.0, weighting="flat")
    clip_and_noise = nominal_noise(NominalConfig(), 1.0, randomness)

    def student_step(sanitize: Callable[[torch.Tensor], torch.Tensor]) -> None:
        with autocast(device):
            proposal = propose(student, images, sigma, noise, labels)
            gradient = output_gradient(config, proposal, images, images, discriminator, student.sigma_data)
        optimizer.zero_grad()
        proposal.outputs.backward(sanitize(gradient) / len(images))
        optimizer.step()

    size = sum(parameter.numel() for parameter in student.parameters())
    print(f"{platform.processor() or platform.machine()}, {device}, {torch.get_num_threads()} threads, {size} weights")
    print(f"{'step':34} {'private ms':>11} {'plain ms':>9} {'ratio':>6}")
    with_noise, without = time_in_turn(lambda: student_step(clip_and_noise), lambda: student_step(lambda g: g))
    name = "student, output gradients, B=128"
    print(f"{name:34} {with_noise * 1e3:11.1f} {without * 1e3:9.1f} {with_noise / without:6.2f}")


if __name__ == "__main__":
    main()
