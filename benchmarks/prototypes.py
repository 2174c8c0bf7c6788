"""How good the released prototypes are by themselves: python benchmarks/prototypes.py mnist data.root=data

Releases the prototypes of a preset with the whole budget, draws 20,000 varied ones, trains the downstream CNN on them
and tests it on the real test set, for three seeds. Prints seconds of private computation, too.
"""

import sys
import time
from dataclasses import replace
from statistics import mean

import torch

from dpsad.api.config import Config
from dpsad.data.augmentation import AugmentationConfig
from dpsad.data.records import ImageSet
from dpsad.data.sources import load_images
from dpsad.evaluation.downstream import downstream_accuracy
from dpsad.methods.dp_sad.prototype_release import rows_of_records
from dpsad.methods.dp_sad.prototypes import release_prototypes
from dpsad.methods.dp_sad.release_plans import plans_of_prototypes
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.runtime.config_files import find_config, load_config
from dpsad.runtime.device import device_named
from students.prototypes import Prototypes
from students.sampling import even_labels

NUM, EPOCHS, SEEDS = 20_000, 5, (0, 1, 2)


def cnn_accuracy(
    prototypes: Prototypes, augmentation: AugmentationConfig, test: ImageSet, seed: int, rng: torch.Generator
) -> float:
    """Accuracy on real test images of the CNN that learned from 20,000 varied prototypes."""
    labels = even_labels(NUM, test.num_classes)
    drawn = [prototypes.draw(part, augmentation, rng) for part in labels.to(rng.device).split(1000)]
    return downstream_accuracy(
        "cnn",
        torch.cat(drawn).cpu(),
        labels,
        test.images,
        test.labels,
        num_classes=test.num_classes,
        seed=seed,
        epochs=EPOCHS,
        device=rng.device,
    ).accuracy


def main() -> None:
    preset, *overrides = sys.argv[1:]
    config = load_config(Config, base=find_config(preset), overrides=overrides)
    config = replace(config, refine=replace(config.refine, steps=0))  # nothing kept back for the refinement
    train, test = load_images(config.data, "train"), load_images(config.data, "test")
    device, settings = device_named(config.device), config.settings()
    train = train.to(device)
    accuracies = []
    for seed in SEEDS:
        rng = torch.Generator(device).manual_seed(seed)
        ledger = Ledger.of(config.privacy)
        start = time.perf_counter()
        prototypes = release_prototypes(
            config.prototypes,
            rows=rows_of_records(settings, train),
            plans=plans_of_prototypes(settings, ledger, len(train)),
            num_classes=train.num_classes,
            image_shape=train.image_shape,
            ledger=ledger,
            randomness=PrivateRandomness(device),
            rng=rng,
        )
        seconds = time.perf_counter() - start
        accuracies.append(cnn_accuracy(prototypes, config.augmentation, test, seed, rng))
        print(
            f"seed {seed}: epsilon {ledger.spent():.3f}, sketch {seconds:.1f} s, CNN {accuracies[-1]:.4f}", flush=True
        )
    print(f"{preset} {' '.join(overrides)}: mean CNN accuracy {mean(accuracies):.4f}")


if __name__ == "__main__":
    main()
