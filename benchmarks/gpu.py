"""What a card gives: python benchmarks/gpu.py [presets...] [section.key=value...]

For each preset (mnist-gpu, cifar10-gpu and mnist-dpdm-published, if none is named): a step of public training, in
float32 and as autocast chooses; gradient rows of records, and memory, by how many are held at once; sampling; and what
the preset's longest stages take with these. Before them secret noise, beside torch's own. Images are random numbers of
the data's shape, so that nothing is to be loaded. Runs on a CPU as well, where narrower networks (network.channels=8)
show that all of it works. Prints medians of one run, and ratios within it.
"""

import math
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from dpsad.api.config import Config
from dpsad.diffusion.denoiser import Denoiser, denoising_loss
from dpsad.methods.registry import DP_SAD
from dpsad.networks.network import new_network
from dpsad.privacy.clipping import steps_for, sum_clipped
from dpsad.privacy.per_example_gradients import trainable_parameters
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.runtime.config_files import find_config, load_config
from dpsad.runtime.device import arithmetic, device_named, hardware_of
from dpsad.runtime.precision import autocast
from dpsad.training.dp_sgd import denoising_rows
from dpsad.training.private_denoiser import lognormal_of
from students.few_step import noised, stepped
from students.seeds import image_seeds, normal_of

PRESETS = ("mnist-gpu", "cifar10-gpu", "mnist-dpdm-published")
SHAPES = {"MNIST": (1, 28, 28), "FashionMNIST": (1, 28, 28)}  # of sets that are read by name
NUM_CLASSES, ROUNDS, AT_ONCE = 10, 3, 500
CHUNKS = (16, 32, 64, 128, 256)
NORMALS = 10**7
MIB = 2**20


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Median of some rounds, after one that warms up."""
    taken = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return median(taken[1:])


def noise_of(device: torch.device) -> None:
    """Prints what secret numbers cost beside torch's."""
    randomness = PrivateRandomness(device)
    own = seconds_of(lambda: torch.randn(NORMALS, device=device), device)
    print(f"10^7 normal numbers: torch {own * 1e3:.1f} ms", end="")
    for name, draw in (
        ("secret", lambda: randomness.normal((NORMALS,))),
        ("secret, rounded exactly", lambda: randomness.rounded_normal((NORMALS,), 1e6)),
    ):
        seconds = seconds_of(draw, device)
        print(f"; {name} {seconds * 1e3:.1f} ms ({seconds / own:.1f} times)", end="")
    print()


class Measured:
    """A preset's network on a device, and what it does in a second."""

    def __init__(self, config: Config, device: torch.device):
        self.config, self.device = config, device
        data = config.data
        self.shape = SHAPES.get(data.name) or (3 if data.colour else 1, data.image_size, data.image_size)
        torch.manual_seed(0)
        network = new_network(config.network, image_channels=self.shape[0], num_classes=NUM_CLASSES)
        self.denoiser = Denoiser(network).to(device)
        self.size = sum(weight.numel() for weight in trainable_parameters(self.denoiser))

    def images(self, num: int) -> tuple[Tensor, Tensor]:
        return torch.rand(num, *self.shape, device=self.device) * 2 - 1, torch.arange(num, device=self.device) % 10

    def training(self, num: int, precision: str) -> float:
        """Seconds of an optimizer step on so many images."""
        (images, labels), optimizer = self.images(num), torch.optim.Adam(self.denoiser.parameters())
        sigma, noise = torch.full((num,), 0.7, device=self.device), torch.randn_like(images)

        def step() -> None:
            with autocast(self.device, precision):
                loss = denoising_loss(self.denoiser, images, sigma, noise, labels).mean()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        with arithmetic(self.device, precision):
            return seconds_of(step, self.device)

    def rows(self, num: int, multiplicity: int) -> tuple[float, float]:
        """Seconds of so many records' rows, clipped and summed; infinite if they do not fit. MiB of a GPU's memory."""
        images, labels = self.images(num)
        rows = denoising_rows(
            self.denoiser,
            noise_multiplicity=multiplicity,
            levels=lognormal_of(self.config.refine),
            label_dropout=0.0,
            no_label=NUM_CLASSES,
            randomness=PrivateRandomness(self.device),
        )
        total = torch.zeros(self.size, dtype=torch.float64, device=self.device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        try:
            seconds = seconds_of(lambda: sum_clipped(rows(images, labels), 1.0, total, steps_for(1.0)), self.device)
        except torch.OutOfMemoryError:
            return math.inf, math.inf
        return seconds, torch.cuda.max_memory_allocated(self.device) / MIB if self.device.type == "cuda" else 0.0

    @torch.no_grad()
    def sampling(self) -> float:
        """Seconds of so many images as are made at once, by the preset's sampler."""
        self.denoiser.eval()
        labels, sampler = torch.arange(AT_ONCE, device=self.device) % 10, self.config.sampler
        normal = normal_of(image_seeds(0, AT_ONCE), self.device)

        def make() -> None:
            noisy = noised(sampler, torch.zeros(self.shape, device=self.device), normal)
            stepped(self.denoiser, sampler, noisy, labels, no_label=NUM_CLASSES, fresh_noise=lambda: normal(self.shape))

        return seconds_of(make, self.device)


def measure(name: str, words: list[str], device: torch.device) -> None:
    config = load_config(Config, base=find_config(name), overrides=words)
    here = Measured(config, device)
    print(f"\n{name}: {here.size:,} weights, images of {'x'.join(map(str, here.shape))}")
    public = config.teacher if config.method == DP_SAD.name else config.pretrain
    exact, fast = (here.training(public.batch_size, precision) for precision in ("float32", "auto"))
    print(
        f"  training, {public.batch_size} images: {exact * 1e3:.1f} ms in float32, {fast * 1e3:.1f} as autocast "
        f"chooses ({exact / fast:.2f} times as fast)"
    )
    private = config.refine if config.method == DP_SAD.name else config.baseline
    each = []
    for num in CHUNKS:
        seconds, memory = here.rows(num, private.noise_multiplicity)
        each.append(seconds / num)
        taken = f", {memory:.0f} MiB" if memory else ""
        print(
            f"  rows, {num:3} records at once, {private.noise_multiplicity} draws: {num / seconds:.1f} a second{taken}"
        )
    minutes = private.steps * private.batch_size * min(each) / 60
    print(f"  {private.steps} noisy steps of {private.batch_size} records: {minutes:.1f} minutes")
    if config.method == DP_SAD.name:
        print(f"  {public.steps} steps of teaching: {public.steps * fast / 60:.1f} minutes")
    print(f"  sampling: {AT_ONCE / here.sampling() * 60:,.0f} images a minute")


def main() -> None:
    words = [word for word in sys.argv[1:] if "=" in word]
    names = [word for word in sys.argv[1:] if "=" not in word] or list(PRESETS)
    device = device_named("auto")
    print(f"{hardware_of(device)}, torch {torch.__version__}")
    noise_of(device)
    for name in names:
        measure(name, words, device)


if __name__ == "__main__":
    main()
