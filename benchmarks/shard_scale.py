"""From which number of records shards beat records: python benchmarks/shard_scale.py docs/shard-scale.png

The noise per pixel on one released image, at the same epsilon and delta, when Q images are asked for in each of R
rounds. A record pulls one of the Q images, so N / Q records share each, and their sum moves by one pull:

    records: sqrt(R) / mu * bound * Q / N

A shard of m records says something about all Q images, so K = N / m shards share each, and their sum moves by twice
the joint bound on a row, sqrt(Q) pulls:

    shards:  2 * sqrt(R) / mu * bound * sqrt(Q) * m / N

Both fall as 1 / N. Shards are less noisy once Q > 4 m^2; so many images are worth asking for once N is so large that
records themselves would be clean enough at that Q. This N is printed, for the noise that is tolerable.
"""

import math
import sys

import matplotlib
import numpy as np

from dpsad.privacy.gaussian import gaussian_mu

matplotlib.use("Agg")
from matplotlib import pyplot as plt

EPSILON, DELTA, ROUNDS, BOUND = 10.0, 1e-5, 4, 10.0
TOLERABLE = 0.1  # noise per pixel; pixels lie in [-1, 1]
SHARD_SIZES = (10, 30, 100, 600)
NUM_IMAGES = (160, 1600, 16_000, 160_000)


def noise_of_records(num_records: np.ndarray, num_images: float, mu: float) -> np.ndarray:
    return math.sqrt(ROUNDS) / mu * BOUND * num_images / num_records


def noise_of_shards(num_records: np.ndarray, num_images: float, shard_size: int, mu: float) -> np.ndarray:
    return 2 * math.sqrt(ROUNDS) / mu * BOUND * math.sqrt(num_images) * shard_size / num_records


def main() -> None:
    mu = gaussian_mu(EPSILON, DELTA)
    num_records = np.logspace(4, 9, 101)
    figure, (noise_axes, images_axes) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for index, num_images in enumerate(NUM_IMAGES):
        color = f"C{index}"
        noise_axes.loglog(num_records, noise_of_records(num_records, num_images, mu), color=color, linestyle="--")
        noise_axes.loglog(
            num_records, noise_of_shards(num_records, num_images, 30, mu), color=color, label=f"{num_images:,} images"
        )
    noise_axes.axhline(TOLERABLE, color="grey", linewidth=0.8)
    noise_axes.set(xlabel="records N", ylabel="noise per pixel", ylim=(1e-4, 1e3))
    noise_axes.set_title("Noise on a released image: shards of 30 (solid), records (dashed)", fontsize=9)
    noise_axes.legend(fontsize=8)

    # both noises, solved for the number of images at the tolerable noise
    images_axes.loglog(num_records, TOLERABLE * mu * num_records / (math.sqrt(ROUNDS) * BOUND), "k--", label="records")
    print(
        f"epsilon {EPSILON:g}, delta {DELTA:g}, {ROUNDS} rounds, pulls of norm {BOUND:g}, noise {TOLERABLE:g} a pixel"
    )
    print(f"{'shard size':>10} {'images':>12} {'records from which shards win':>30}")
    for shard_size in SHARD_SIZES:
        images = (TOLERABLE * mu * num_records / (2 * math.sqrt(ROUNDS) * BOUND * shard_size)) ** 2
        images_axes.loglog(num_records, images, label=f"shards of {shard_size}")
        crossing = 4 * shard_size**2 * math.sqrt(ROUNDS) * BOUND / (TOLERABLE * mu)
        print(f"{shard_size:10} {4 * shard_size**2:12,} {crossing:30,.0f}")
    images_axes.set(xlabel="records N", ylabel="images a round", ylim=(1, 1e12))
    images_axes.set_title(f"How many images can be asked for at noise {TOLERABLE:g} a pixel", fontsize=9)
    images_axes.legend(fontsize=8)
    figure.suptitle(f"Epsilon {EPSILON:g}, delta {DELTA:g}, one record added or removed", fontsize=10)
    figure.savefig(sys.argv[1], dpi=110)


if __name__ == "__main__":
    main()
