"""What two processes gain over one: python benchmarks/ranks.py

One release of prototype rows and one step of DP-SGD rows, by one process of one thread and by two of one thread each,
which talk by gloo, in turn. Prints the ratios of median seconds, and of processor seconds: alone over those of the
busier of the two, which is what idle cores would gain, since a process that waits takes none.
"""

import os
import platform
import socket
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import multiprocessing

from dpsad.data.records import ImageSet
from dpsad.diffusion.denoiser import Denoiser
from dpsad.methods.dp_sad.prototype_release import rows_of_records
from dpsad.methods.dp_sad.prototypes import difference_bound, propose_prototypes
from dpsad.methods.dp_sad.settings import DpSadSettings
from dpsad.networks.config import NetworkConfig
from dpsad.networks.unet import UNet
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness, poisson_sample
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime.ranks import ALONE, Ranks, joined
from dpsad.training.batches import in_full_batches
from dpsad.training.dp_sgd import denoising_rows

ROUNDS, NUM_RECORDS, PER_CLASS, BATCH_SIZE, CHUNK = 3, 20_000, 64, 2048, 16
SHAPE = (1, 28, 28)

Work = Callable[[], object]  # one release


def levels(uniform: torch.Tensor) -> torch.Tensor:
    return (0.1 + 3 * uniform).float()


def plan(sampling_prob: float) -> ReleasePlan:
    return ReleasePlan(purpose="test", unit=Unit.RECORD, clip_norm=1.0, sampling_prob=sampling_prob, num_releases=10**6)


def sanitizer_of(ranks: Ranks, sampling_prob: float) -> Sanitizer:
    """One that is charged for nothing, since what it releases is of no record."""
    sanitizer = Sanitizer(plan(sampling_prob), Ledger(1.0, 1e-5), PrivateRandomness(), ranks)
    sanitizer.charged = True
    return sanitizer


def own_of(records: ImageSet, ranks: Ranks) -> ImageSet:
    return records.take(ranks.own(len(records)))


def prototype_release(records: ImageSet, ranks: Ranks) -> Work:
    """All records, 64 prototypes a class."""
    settings, sanitizer = DpSadSettings(), sanitizer_of(ranks, 1.0)
    rows, size = rows_of_records(settings, own_of(records, ranks)), records.images[0].numel()
    centres = torch.rand(10, PER_CLASS, *SHAPE, generator=torch.Generator().manual_seed(1)) * 2 - 1
    bound = difference_bound(settings.prototypes, PER_CLASS, size)
    return lambda: sanitizer.release(rows(propose_prototypes(centres), bound), (10 * PER_CLASS, size + 1))


def gradient_release(records: ImageSet, ranks: Ranks) -> Work:
    """2,048 records expected, of which each has two draws; a network of 32 channels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        denoiser = Denoiser(UNet(NetworkConfig(patch=2), image_channels=1, num_classes=10))
    size, own = sum(weight.numel() for weight in denoiser.parameters()), own_of(records, ranks)
    prob = BATCH_SIZE / len(records)
    sanitizer = sanitizer_of(ranks, prob)
    draws = ranks.draws(sanitizer.randomness)
    rows = denoising_rows(
        denoiser, noise_multiplicity=2, levels=levels, label_dropout=0.1, no_label=10, randomness=draws
    )

    def step() -> torch.Tensor:
        ranks.new_step(draws, sanitizer.randomness)
        index = poisson_sample(len(own), prob, draws)
        batches = in_full_batches(CHUNK, own.images[index], own.labels[index])
        return sanitizer.release((rows(images, labels) for _, (images, labels) in batches), (size,))

    return step


def timed(work: Work) -> tuple[float, float]:
    """Seconds, and seconds of this process."""
    start, own = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - own


def compare(name: str, alone: Work, together: Work, ranks: Ranks) -> None:
    """Both in turn, after one round that does not count; rank 0 works alone while the other waits."""
    seconds: dict[str, list[float]] = {key: [] for key in ("alone", "together", "own alone", "own together")}
    for round_ in range(ROUNDS + 1):
        wall, own = timed(alone) if ranks.leads else (0.0, 0.0)
        ranks.any(False)
        both_wall, both_own = timed(together)
        busier = max(ranks.gathered(both_own))
        if round_:
            for taken, one in zip(seconds.values(), (wall, both_wall, own, busier), strict=True):
                taken.append(one)
    if ranks.leads:
        one, two, own_one, own_two = map(median, seconds.values())
        print(
            f"{name:44} {one:8.2f} {two:8.2f} {one / two:6.2f} {own_one:10.2f} {own_two:8.2f} {own_one / own_two:6.2f}"
        )


def run(rank: int, port: int) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(0)
    records = ImageSet(
        images=torch.rand(NUM_RECORDS, *SHAPE, generator=rng) * 2 - 1,
        labels=torch.arange(NUM_RECORDS) % 10,
        ids=tuple(map(str, range(NUM_RECORDS))),
        class_names=tuple(map(str, range(10))),
    )
    with joined() as ranks:
        if ranks.leads:
            load = ", ".join(f"{part:.1f}" for part in os.getloadavg())
            print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, load {load}")
            print(f"{'':44} {'1 s':>8} {'2 s':>8} {'ratio':>6} {'1 own s':>10} {'2 own s':>8} {'ratio':>6}")
        for name, release in (
            (f"prototype rows of {NUM_RECORDS} records", prototype_release),
            (f"DP-SGD rows of {BATCH_SIZE} records", gradient_release),
        ):
            compare(name, release(records, ALONE), release(records, ranks), ranks)


def main() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.start_processes(run, (port,), nprocs=2, start_method="fork")  # all is imported


if __name__ == "__main__":
    main()
