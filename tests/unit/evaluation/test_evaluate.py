import json

import pytest
import torch
from torch import nn

from dpsad.evaluation import evaluate
from dpsad.evaluation.choices import METRICS
from dpsad.evaluation.evaluate import evaluate_samples
from dpsad.evaluation.features import train_reference
from dpsad.evaluation.fidelity import frechet_distance
from dpsad.evaluation.result import EvaluationResult


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
    assert EvaluationResult.from_dict(json.loads(json.dumps(result.to_dict(), allow_nan=False))) == result
    assert list(result.sets) == ["real", "student"]
    for found in result.sets.values():
        assert set(found.metrics) == {"classifier_score", "classifier_score_deviation"}
        assert found.num_images == found.num_frechet_images == 200
        assert set(found.classifiers) == {"logistic", "mlp", "cnn"}
        for outcome in found.classifiers.values():
            assert len(outcome.per_class_accuracy) == 10
    assert (result.features.name, result.features.num_train_images) == ("reference-cnn", 1437)
    assert result.environment.seed == 0
    assert len(lines) == 9


@pytest.mark.parametrize(
    ("protocol", "epochs", "told", "named"),
    [
        ("quick", None, {"epochs": None, "learning_rate": 1e-3}, "quick"),
        ("dpdm", None, {"epochs": 50, "learning_rate": 3e-4}, "dpdm"),
        ("dpdm", 2, {"epochs": 2, "learning_rate": 3e-4}, "dpdm, but 2 epochs"),
    ],
)
def test_classifiers_are_trained_as_the_protocol_says(digits, reference, monkeypatch, protocol, epochs, told, named):
    """Golden numbers: nv-tlabs/DPDM, train_downstream_classifiers.py, commit 37fbcbd: 50 epochs of Adam at 3e-4."""
    asked, measure = [], evaluate.downstream_accuracy

    def spy(*images, **settings):
        asked.append({key: settings[key] for key in told})
        return measure(*images, **settings | {"epochs": 1})

    monkeypatch.setattr(evaluate, "downstream_accuracy", spy)
    train, test = digits
    few = train[0][:100], train[1][:100]
    settings = {"num_classes": 10, "seed": 0, "classifiers": ("mlp",), "space": reference}
    result = evaluate_samples(few, train=train, test=test, protocol=protocol, epochs=epochs, **settings)
    assert asked == [told, told]
    assert result.protocol == named
    assert str(result).startswith(f"protocol {named}, 100 samples")


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
    accuracy = [result.sets[name].classifiers["logistic"].accuracy for name in ("student", "sketch", "real")]
    distance = [result.sets[name].frechet for name in ("student", "sketch", "real")]
    assert accuracy == sorted(accuracy)
    assert accuracy[0] < accuracy[2] - 0.02
    assert distance == sorted(distance, reverse=True)
    assert distance[0] > 3 * distance[2]
    assert result.features.fingerprint == reference.fingerprint()


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
    assert first.real.frechet == second.real.frechet
    assert first.student.classifiers["mlp"].per_class_accuracy == second.student.classifiers["mlp"].per_class_accuracy


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
    student, real = result.student.metrics, result.real.metrics
    assert student["kernel_distance"] > real["kernel_distance"] + 10 * real["kernel_distance_deviation"]
    for name in ("precision", "density", "coverage", "classifier_score"):
        assert student[name] < real[name] - 0.02, name
    assert real["recall"] > 0.7
    assert abs(real["kernel_distance"]) < 5 * real["kernel_distance_deviation"]
    json.dumps(result.to_dict(), allow_nan=False)


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
    assert (result.features.name, result.features.fingerprint) == ("brightness", "0" * 64)
    assert result.features.source == "two lines of a test"
    real, half = Brightness()(train[0]), Brightness()(train[0] * 0.5)
    assert result.student.frechet == pytest.approx(frechet_distance(real, half), rel=0.1)
