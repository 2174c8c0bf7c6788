"""Fingerprints of small runs of every method on the embedded digits, with fixed noise, on one thread.

    python benchmarks/same_bytes.py [NAME ...]

Two versions of the code that print the same lines train the same students, bit for bit. Each run is made by the
commands, so that another version is measured by running this file with its checkout first in PYTHONPATH.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import load_file

DISTILLED = ("teacher.steps=40", "student.steps=12", "refine.steps=3", "refine.batch_size=300")
NOMINAL = ("guarantee=published", "teacher.data=private", "student.data_weight=1")
PUBLIC = ("public_data.source=npz", "public_data.path={public}")
DENOISER = ("baseline.steps=3", "baseline.batch_size=100", "network.label_spread=1")
# name: the commands before evaluation, and what they are told
RUNS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "records": (("teach", "distill"), DISTILLED),
    "records-from-prototypes": (
        ("sketch", "teach", "distill"),
        (*DISTILLED, "sampler.start=prototypes", "sampler.sigma_max=1"),
    ),
    "records-public-teacher": (("teach", "distill"), (*DISTILLED, *PUBLIC, "teacher.data=public")),
    "shards-closed-form": (("teach", "distill"), (*DISTILLED, "guarantee=shards", "shards.num_shards=50")),
    "shards-sampled-denoisers": (
        ("teach", "distill"),
        (*DISTILLED, "guarantee=shards", "shards.num_shards=20", "shards.sampling_prob=0.5", "shards.steps=20",
         "shards.teacher=denoisers", "shards.adversarial_weight=0.5"),
    ),
    "nominal": (("teach", "distill"), (*DISTILLED, *NOMINAL)),
    "nominal-all-timesteps-clusters": (
        ("teach", "distill"),
        (*DISTILLED, *NOMINAL, "data.pseudo_labels=5", "published.timesteps=all", "published.num_levels=4"),
    ),
    "dpdm": (("baseline",), ("method=dpdm", "baseline.parameterisation=v", *DENOISER)),
    "dp-diffusion": (
        ("baseline",),
        ("method=dp-diffusion", "pretrain.steps=20", "baseline.timesteps=[0,30,1000]",
         "baseline.timestep_weights=[0.4,0.6]", *DENOISER, *PUBLIC),
    ),
    "dp-ldm": (
        ("baseline",),
        ("method=dp-ldm", "pretrain.steps=20", "compress.steps=20", "network.attention=true", "network.label_tokens=2",
         "fine_tune.parameters=lora", "autoencoder.channels=8", *DENOISER, *PUBLIC),
    ),
    "dp-merf": (("baseline",), ("method=dp-merf", "dp_merf.steps=20")),
    "gs-wgan": (("baseline",), ("method=gs-wgan", "guarantee=shards", "gs_wgan.steps=4", "gs_wgan.num_shards=100")),
    "class-means": (("baseline",), ("method=class-means",)),
}  # fmt: skip


def main() -> None:
    chosen = sys.argv[1:] or list(RUNS)
    for name in chosen:
        verbs, words = RUNS[name]
        with tempfile.TemporaryDirectory() as folder:
            public = Path(folder) / "public.npz"
            write_public_images(public)
            run = Path(folder) / "run"
            fixed = ("privacy.noise_seed=1", "precision=float32", f"run={run}")
            told = [word.format(public=public) for word in words]
            for number, verb in enumerate(verbs):
                dpsad(verb, *(() if number else ("--config", "digits")), *fixed, *told)
            print(f"{name:32} {fingerprint(run / 'release')}", flush=True)


def dpsad(*words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dpsad.cli", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"dpsad {' '.join(words)}\n{done.stdout}{done.stderr}")


def write_public_images(path: Path) -> None:
    """Fifty smooth 8x8 images of ten classes, which are nobody's."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(50, 8, 8))
    smooth = noise + np.roll(noise, 1, axis=1) + np.roll(noise, 1, axis=2)
    images = np.clip(128 + 40 * smooth, 0, 255).astype(np.uint8)
    labels = np.arange(50) % 10
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)


def fingerprint(release: Path) -> str:
    """Weights by name, the pixels of the picture, and the epsilon of the statement."""
    weights = hashlib.sha256()
    for name, tensor in sorted(load_file(release / "student.safetensors").items()):
        weights.update(name.encode() + tensor.tobytes())
    pixels = hashlib.sha256(np.asarray(Image.open(release / "samples.png")).tobytes())
    statement = json.loads((release / "privacy.json").read_text(encoding="utf-8"))
    epsilon = statement["epsilon"] or statement["nominal_epsilon"]
    return f"weights {weights.hexdigest()[:16]} picture {pixels.hexdigest()[:16]} epsilon {epsilon:.6f}"


if __name__ == "__main__":
    main()
