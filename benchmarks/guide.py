"""What a guide brings a finished run: python benchmarks/guide.py runs/mnist [samples=20000] [share=0.1] [features]

Trains a guide of each kind of features (scattering, samples, and "scattering,samples", where none are named) by rows of
the run's records, as if that share of its budget had been left, on samples as they come. Prints how often each guide is
right about held-out records, how often it agrees with a sample's label, and what a CNN that learns from the samples
reaches as they come, rejected and relabelled. A fifth of the training records is held out and read by no guide; the
run's student may have learned from it. Nothing here is charged to the run: figures are diagnostics, and private.
"""

import sys
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from dpsad.api.config import Config
from dpsad.commands.read import read_config
from dpsad.data.records import ImageSet
from dpsad.data.sources import load_images
from dpsad.data.splits import held_out
from dpsad.evaluation.downstream import downstream_accuracy, predict
from dpsad.methods.dp_sad.guide import GuideConfig, guide_plan, train_guide
from dpsad.privacy.gaussian import gaussian_mu
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.provenance import provenance_of
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.release.export import load_student
from dpsad.runtime.context import Context
from dpsad.runtime.device import device_named
from dpsad.runtime.log import LogConfig
from dpsad.runtime.run_folder import open_run
from students.guide import Guide
from students.sampling import labels_to_sample
from students.seeds import image_seeds

KINDS = ["scattering", "samples", "scattering,samples"]


def guide_of(config: GuideConfig, run: Config, samples: ImageSet, records: ImageSet, folder: Path) -> Guide:
    """A guide that is trained in a folder of its own, under a ledger that nothing else is charged to."""
    device, privacy = device_named(run.device), run.privacy
    context = Context(
        run=open_run(folder, run),
        device=device,
        precision=run.precision,
        seed=run.seed,
        ledger=Ledger.of(privacy),
        randomness=PrivateRandomness(device),
        stated_num_records=len(records),
        load_records=lambda: records,
        load_public=lambda: samples,
        log_config=LogConfig(),
        say=print,
    )
    plan = guide_plan(config, gaussian_mu(privacy.epsilon, privacy.delta) * config.share**0.5)
    return train_guide(config, context, samples=samples, records=records, plan=plan, learned_from="samples")


def main() -> None:
    folder, *words = sys.argv[1:]
    told = {"samples": "20000", "share": "0.1"} | dict(word.split("=") for word in words if "=" in word)
    run = read_config(None, [f"run={folder}"])
    device = device_named(run.device)
    student = load_student(folder, device=device)
    records = load_images(run.data, "train")
    apart = torch.tensor([held_out(record_id) for record_id in records.ids])
    train, test = records.take((~apart).nonzero().flatten()), records.take(apart.nonzero().flatten())
    labels = labels_to_sample(student, int(told["samples"]))
    images = student.sample(labels, image_seeds(run.seed, len(labels)), guide=False)
    samples = ImageSet(
        images=images,
        labels=labels,
        ids=tuple(map(str, range(len(labels)))),
        class_names=train.class_names,
        provenance=provenance_of(student.model),
    )

    def cnn(chosen: Tensor, called: Tensor) -> float:
        return downstream_accuracy(
            "cnn",
            images[chosen],
            called[chosen],
            test.images,
            test.labels,
            num_classes=train.num_classes,
            seed=run.seed,
            device=device,
        ).accuracy

    everything = torch.ones(len(labels), dtype=torch.bool)
    print(f"{folder}: {len(labels)} samples, CNN {cnn(everything, labels):.4f} as they come", flush=True)
    for kinds in [word for word in words if "=" not in word] or KINDS:
        config = GuideConfig(share=float(told["share"]), features=tuple(kinds.split(",")))
        with tempfile.TemporaryDirectory() as place:
            guide = guide_of(config, run, samples, train, Path(place) / "run")
        right = (predict(guide, test.images).argmax(1) == test.labels).double().mean().item()
        taken_for = predict(guide, images).argmax(1)
        agrees = taken_for == labels
        print(
            f"{kinds}: right on held-out records {right:.4f}, agrees with samples {agrees.double().mean().item():.4f}, "
            f"CNN rejected {cnn(agrees, labels):.4f}, relabelled {cnn(everything, taken_for):.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
