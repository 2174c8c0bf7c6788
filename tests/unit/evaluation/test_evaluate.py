import json

import pytest
import torch
from torch import nn

from dpsad.evaluation.choices import METRICS
from dpsad.evaluation.evaluate import evaluate_samples
from dpsad.evaluation.features import train_reference
from dpsad.evaluation.fidelity import frechet_distance


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
        assert set(result[name]) == {"num_images", "classifiers", "frechet", "num_frechet_images", "metrics"}
        assert set(result[name]["metrics"]) == {"classifier_score", "classifier_score_deviation"}
        assert result[name]["num_images"] == result[name]["num_frechet_images"] == 200
        assert set(result[name]["classifiers"]) == {"logistic", "mlp", "cnn"}
        for outcome in result[name]["classifiers"].values():
            assert set(outcome) == {
                "accuracy", "per_class_accuracy", "calibration_error", "member_accuracies", "synthetic_accuracy",
                "epoch", "seconds",
            }  # fmt: skip
            assert len(outcome["per_class_accuracy"]) == 10
    assert result["features"]["name"] == "reference-cnn"
    assert result["features"]["num_train_images"] == 1437
    assert set(result["features"]) == {"name", "source", "fingerprint", "num_features", "num_train_images"}
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
        space=reference,
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
            space=reference,
        )
        for _ in range(2)
    )
    assert first["real"]["frechet"] == second["real"]["frechet"]
    assert (
        first["student"]["classifiers"]["mlp"]["per_class_accuracy"]
        == second["student"]["classifiers"]["mlp"]["per_class_accuracy"]
    )


def test_every_metric_finds_the_worse_images(digits, reference):
    train, test = digits
    result = evaluate_samples(
        noisy(train, 1.0),
        train=train,
        test=test,
        num_classes=10,
        seed=0,
        classifiers=(),
        metrics=METRICS,
        space=reference,
    )
    student, real = result["student"]["metrics"], result["real"]["metrics"]
    assert student["kernel_distance"] > real["kernel_distance"] + 10 * real["kernel_distance_deviation"]
    for name in ("precision", "density", "coverage", "classifier_score"):
        assert student[name] < real[name] - 0.02, name
    assert real["recall"] > 0.7
    assert abs(real["kernel_distance"]) < 5 * real["kernel_distance_deviation"]
    assert json.loads(json.dumps(result, allow_nan=False)) == result


class Brightness(nn.Module):
    """A feature space that someone brings along: mean and spread of the pixels."""

    name, source, num_features = "brightness", "two lines of a test", 2

    def forward(self, images):
        return torch.stack([images.mean(dim=(1, 2, 3)), images.std(dim=(1, 2, 3))], dim=1)

    def classify(self, features):
        return features

    def fingerprint(self):
        return "0" * 64


def test_any_feature_space_may_be_injected_and_is_named(digits):
    train, test = digits
    result = evaluate_samples(
        (train[0] * 0.5, train[1]), train=train, test=test, num_classes=10, seed=0, classifiers=(), space=Brightness()
    )
    assert (result["features"]["name"], result["features"]["fingerprint"]) == ("brightness", "0" * 64)
    assert result["features"]["source"] == "two lines of a test"
    real, half = Brightness()(train[0]), Brightness()(train[0] * 0.5)
    assert result["student"]["frechet"] == pytest.approx(frechet_distance(real, half), rel=0.1)
