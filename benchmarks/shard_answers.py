"""How long shards' closed-form teachers take, and how much memory: python benchmarks/shard_answers.py ../shared/data

A thousand teachers of 60,000 MNIST records answer a batch of 256 queries, and the answers are clipped, summed and
noised. The ratio is against one teacher of all records, which makes the same products without the rows.
"""

import resource
import sys
import time

import torch

from dpsad.data.config import DataConfig
from dpsad.data.shards import split_into_shards
from dpsad.data.sources import load_images
from dpsad.methods.dp_sad.prototype_rows import teacher_rows
from dpsad.methods.dp_sad.queries import Proposal
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from teachers.closed_form import ClosedFormTeachers

QUERIES = 256


def main() -> None:
    records = load_images(DataConfig(source="torchvision", name="MNIST", root=sys.argv[1]), "train")
    rng = torch.Generator().manual_seed(0)
    outputs = torch.zeros(QUERIES, *records.image_shape)
    sigma, labels = torch.full((QUERIES,), 0.5), torch.arange(QUERIES) % 10
    inputs = 0.5 * torch.randn(outputs.shape, generator=rng)
    proposal = Proposal(inputs, sigma, labels, outputs)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds = {}
    for num_shards in (1000, 1):
        shards = split_into_shards(records.ids, num_shards, key=b"benchmark")
        teachers = ClosedFormTeachers(records.images, records.labels, shards)
        plan = ReleasePlan(
            purpose="test", unit=Unit.SHARD, clip_norm=QUERIES**0.5, noise_multiplier=4.0, num_releases=3
        )
        sanitizer = Sanitizer(plan, Ledger(100.0, 1e-5), PrivateRandomness())
        times = []
        for _ in range(plan.num_releases):
            start = time.perf_counter()
            rows = teacher_rows(teachers, None, torch.arange(num_shards), proposal, 28.0, 0.1)
            sanitizer.release(rows, (QUERIES, outputs[0].numel() + 1))
            times.append(time.perf_counter() - start)
        seconds[num_shards] = min(times)
        print(f"{num_shards:5} closed-form teachers, {QUERIES} queries: {min(times):.2f} s (of {plan.num_releases})")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"ratio {seconds[1000] / seconds[1]:.1f}; peak memory {peak / 2**20:.2f} GiB, {before / 2**20:.2f} before")


if __name__ == "__main__":
    main()
