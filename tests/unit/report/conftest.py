import json
from pathlib import Path

import pytest
import torch
import yaml

from students.sampling import sample_grid


@pytest.fixture
def noise_images():
    """(num_classes, image_shape) -> ten images a class of noise, in the order of a release's grid."""

    def images(num_classes, image_shape):
        return torch.rand(10 * num_classes, *image_shape, generator=torch.Generator().manual_seed(0)) * 2 - 1

    return images


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


@pytest.fixture
def make_run(tmp_path, noise_images):
    """(name, **what differs) -> a run folder such as dpsad writes, without training anything.

    `accuracy=None` leaves it without an evaluation; `statement`, `data`, `config`, `release` and `measured` update what
    is written.
    """

    def make(
        name,
        *,
        epsilon=10.0,
        formal=True,
        accuracy=0.9,
        frechet=50.0,
        class_names=("zero", "one", "two"),
        image_shape=(1, 8, 8),
        fingerprint="0123456789abcdef",
        statement=(),
        data=(),
        measured=(),
        config=(),
        release=(),
        seconds=(("sketch", 1.0), ("teach", 60.0), ("distill", 30.0)),
    ) -> Path:
        folder = tmp_path / "runs" / name
        claim = {
            "guarantee": "records" if formal else "nominal",
            "formal": formal,
            "epsilon": epsilon if formal else None,
            **({} if formal else {"nominal_epsilon": epsilon}),
            "delta": 1e-5,
            "adjacency": "add-or-remove-one-record",
            "unit": ["record"] if formal else [],
            "reasons": [] if formal else ["the paper's reason"],
            **dict(statement),
        }
        source = {"source": "torchvision", "name": "MNIST", "root": "data", "limit": 0, "grey": False, **dict(data)}
        write(
            folder / "config.yaml",
            yaml.safe_dump(
                {"guarantee": claim["guarantee"], "data": source, "teacher": {"path": None}, **dict(config)}
            ),
        )
        write(folder / "release" / "privacy.json", claim)
        recipe = {"image_shape": list(image_shape), "class_names": list(class_names), **dict(release)}
        write(folder / "release" / "config.yaml", yaml.safe_dump(recipe))
        grid = sample_grid(noise_images(len(class_names), image_shape), columns=len(class_names))
        grid.save(folder / "release" / "samples.png")
        lines = [
            {"stage": stage, "time": 0.1, "seconds": taken, "hardware": "1 CPU thread"} for stage, taken in seconds
        ]
        write(folder / "private" / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        if accuracy is not None:
            one = {"num_images": 2000, "num_frechet_images": 1000}
            evaluation = {
                "student": {"classifiers": {"cnn": {"accuracy": accuracy}}, "frechet": frechet, **one},
                "real": {"classifiers": {"cnn": {"accuracy": 0.99}}, "frechet": 1.0, **one},
                "sketch": None,
                "features": {"name": "reference-cnn", "fingerprint": fingerprint},
                "sampling_images_per_second": 250.0,
                "hardware": "1 CPU thread",
                "privacy": claim,
                **dict(measured),
            }
            write(folder / "private" / "evaluation.json", evaluation)
        return folder

    return make
