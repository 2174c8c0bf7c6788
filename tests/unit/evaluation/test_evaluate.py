import json

import pytest
import torch

from dpsad.evaluation.evaluate import evaluate_samples
from dpsad.evaluation.features import train_reference


@pytest.fixture(scope="module")
def reference(digits):
    return train_reference(*digits[0], num_classes=10, seed=0, epochs=10)


def noisy(labelled, scale):
    images, labels = labelled
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + scale * noise).clamp(-1, 1), labels


def test_layout_is_the_documented_one(digits):
    train, test = digits
    few = train[0][:200], train[1][:200]
    lines = []
    result = evaluate_samples(few, train=train, test=test, num_classes=10, seed=0, epochs=2, log=lines.append)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert set(result) == {"student", "real", "sketch", "features", "environment"}
    assert result["sketch"] is None
    for name in ("student", "real"):
        assert set(result[name]) == {"num_images", "classifiers", "frechet", "num_frechet_images"}
        assert result[name]["num_images"] == result[name]["num_frechet_images"] == 200
        assert set(result[name]["classifiers"]) == {"logistic", "mlp", "cnn"}
        for outcome in result[name]["classifiers"].values():
            assert set(outcome) == {"accuracy", "per_class_accuracy", "synthetic_accuracy", "epoch", "seconds"}
            assert len(outcome["per_class_accuracy"]) == 10
    assert result["features"]["name"] == "reference-cnn"
    assert result["features"]["num_train_images"] == 1437
    assert set(result["environment"]) == {"device", "cores", "threads", "torch", "seed", "seconds"}
    assert len(lines) == 9


def test_worse_images_score_worse(digits, reference):
    """More noise, lower accuracy and larger distance; real images are best."""
    train, test = digits
    result = evaluate_samples(
        noisy(train, 1.5),
        train=train,
        test=test,
        sketch=noisy(train, 0.4),
        num_classes=10,
        seed=0,
        classifiers=("logistic",),
        reference=reference,
    )
    accuracy = [result[name]["classifiers"]["logistic"]["accuracy"] for name in ("student", "sketch", "real")]
    distance = [result[name]["frechet"] for name in ("student", "sketch", "real")]
    assert accuracy == sorted(accuracy)
    assert accuracy[0] < accuracy[2] - 0.02
    assert distance == sorted(distance, reverse=True)
    assert distance[0] > 3 * distance[2]
    assert result["features"]["fingerprint"] == reference.fingerprint()


def test_same_seed_gives_the_same_figures(digits, reference):
    train, test = digits
    first, second = (
        evaluate_samples(
            noisy(train, 0.4),
            train=train,
            test=test,
            num_classes=10,
            seed=4,
            classifiers=("mlp",),
            epochs=2,
            reference=reference,
        )
        for _ in range(2)
    )
    assert first["real"]["frechet"] == second["real"]["frechet"]
    assert (
        first["student"]["classifiers"]["mlp"]["per_class_accuracy"]
        == second["student"]["classifiers"]["mlp"]["per_class_accuracy"]
    )
