"""Whole commands of the published loop on 200 digits: timesteps, pseudo-labels, and who is told the class."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from dpsad import load_student
from dpsad.api import judging as sampling
from dpsad.commands import evaluate as judging
from dpsad.data.clusters import Clusters
from dpsad.data.config import DataConfig
from dpsad.data.sources import load_images
from dpsad.runtime.checkpoint import load

PUBLISHED = (
    "guarantee=nominal",
    "teacher.data=private",
    "student.data_weight=1",
    "student.batch_size=200",  # all records in every step, which is accounted in closed form, at once
    "nominal.num_levels=4",
)


@pytest.fixture(autouse=True)
def _quick_reference(monkeypatch):
    monkeypatch.setattr(judging, "REFERENCE_BATCHES", 10)


@pytest.fixture
def taught(command, tiny, tmp_path):
    """(run's name, *overrides) -> its folder, after teach and distill."""

    def make(name, *overrides):
        words = ("--config", "digits", f"run={tmp_path / name}", *tiny, *PUBLISHED, *overrides)
        for verb in ("teach", "distill"):
            code, printed = command(verb, *words)
            assert code == 0, printed
        return tmp_path / name

    return make


@pytest.fixture
def unlabelled(tmp_path):
    """A folder of digits without class folders, 100 to train on and 40 to test."""
    for index, pixels in enumerate(load_digits().images[:140]):
        side = tmp_path / "digits" / ("train" if index < 100 else "test")
        side.mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 15.9).astype(np.uint8)).save(side / f"{index:03d}.png")
    return ("data.source=folder", f"data.path={tmp_path / 'digits'}")


def evaluation(command, run):
    code, printed = command("evaluate", run, "--num", 500, "--classifier", "logistic", "--no-compare")
    assert code == 0, printed
    return json.loads((run / "private" / "evaluation.json").read_text()), printed


def test_all_timesteps_train_another_student_and_say_so(taught, command, tiny):
    every = taught("every", "nominal.timesteps=all")
    statement = json.loads((every / "release" / "privacy.json").read_text())
    assert "sigma/sqrt(T)" in statement["reasons"][0]
    code, printed = command("account", "--config", "digits", *tiny, *PUBLISHED, "nominal.timesteps=all")
    sigma = statement["nominal_events"][0]["noise_multiplier"]
    assert code == 0
    assert f"multiplier of {sigma / 4**0.5:.2e} against" in printed


def test_records_without_labels_are_taught_by_clusters(taught, unlabelled, command, tiny, tmp_path):
    labels = ("data.share=1", "privacy.num_records=100", "data.pseudo_labels=5", *unlabelled)
    run = taught("clustered", *labels)
    assert load_student(run).class_names == tuple(f"cluster {index}" for index in range(5))
    result, printed = evaluation(command, run)
    assert "no labels of their own" in result["no_classifiers"]
    assert result["no_classifiers"] in printed
    assert result["student"]["frechet"] > 0
    assert result["student"]["classifiers"] == {}

    path = f"teacher.path={run / 'private' / 'teacher.pt'}"
    taught("other", *labels, path)
    clusters = [load(tmp_path / name / "private" / "clusters.pt")["centres"] for name in ("clustered", "other")]
    assert torch.equal(*clusters)
    words = (
        "--config",
        "digits",
        f"run={tmp_path / 'third'}",
        *tiny,
        *PUBLISHED,
        *labels,
        path,
        "data.pseudo_labels=6",
    )
    code, printed = command("distill", *words)
    assert (code, "knows 5 clusters" in printed) == (2, True)


def test_a_teacher_without_clusters_cannot_teach_by_them(taught, command, tiny, tmp_path):
    run = taught("plain")
    path = f"teacher.path={run / 'private' / 'teacher.pt'}"
    words = ("--config", "digits", f"run={tmp_path / 'r'}", *tiny, *PUBLISHED, "data.pseudo_labels=10", path)
    code, printed = command("distill", *words)
    assert (code, "knows no clusters" in printed) == (2, True)


def test_samples_by_cluster_are_judged_by_the_class_most_records_of_it_have(taught, command, monkeypatch):
    """A student that hands out records of the cluster asked for would be at chance (0.1), were clusters classes."""
    run = taught("both", "data.pseudo_labels=15")
    assert len(load_student(run).class_names) == 15
    records = load_images(DataConfig(share=0.144, pseudo_labels=15), "train")
    assert records.class_names == tuple(str(digit) for digit in range(10)), "sources give true labels"
    of_cluster = Clusters(**load(run / "private" / "clusters.pt")).label(records).labels

    def hand_out(student, labels, *, seed, progress):
        return torch.stack([records.images[of_cluster == label][seed] for label in labels])

    monkeypatch.setattr(sampling, "generate", hand_out)
    result, _ = evaluation(command, run)
    assert result["no_classifiers"] is None
    assert result["student"]["classifiers"]["logistic"]["accuracy"] > 0.4
    assert len(result["student"]["classifiers"]["logistic"]["per_class_accuracy"]) == 10


def test_clusters_are_refused_where_a_guarantee_is_promised(command, tiny):
    code, printed = command("account", "--config", "digits", *tiny, "data.pseudo_labels=10")
    assert (code, "data.pseudo_labels=10 needs guarantee=nominal" in printed) == (2, True)
    code, printed = command("account", "--config", "digits", *tiny, "public_data.pseudo_labels=10")
    assert (code, "public_data.pseudo_labels=10" in printed) == (2, True)


@pytest.mark.parametrize("discriminator", ["true", "false"])
def test_a_student_without_labels_samples_and_is_measured(taught, command, tmp_path, discriminator):
    run = taught("untold", "student.use_labels=false", f"discriminator.use_labels={discriminator}", "student.steps=5")
    trained = load(run / "private" / "distill.checkpoint")["parts"]["critic"]
    assert trained["label_directions.weight"].any() == (discriminator == "true"), "they start at zero"
    student = load_student(run / "release")
    images = student.sample(torch.tensor([0, 7, -1]), seeds=[5, 5, 5])
    assert torch.allclose(images[0], images[1], atol=1e-4), "the label says nothing"
    assert torch.allclose(images[0], images[2], atol=1e-4)

    assert command("sample", run, "--num", 4, "--out", tmp_path / "s.npz")[0] == 0
    assert np.load(tmp_path / "s.npz")["labels"].tolist() == [-1] * 4
    code, printed = command("sample", run, "--num", 4, "--out", tmp_path / "s")
    assert (code, "4 images without labels" in printed) == (0, True)
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["unlabelled"]
    code, printed = command("sample", run, "--label", 3, "--out", tmp_path / "t.npz")
    assert (code, "trained without labels" in printed) == (2, True)

    result, printed = evaluation(command, run)
    assert "student.use_labels=false" in result["no_classifiers"]
    assert result["student"]["frechet"] > 0
    assert "without being told which" in (run / "release" / "README.md").read_text()


def test_the_discriminator_is_the_one_asked_for(taught):
    """Each setting reaches the loop: with it, student or discriminator end up elsewhere."""
    projection = ("discriminator.kind=projection", "privacy.noise_seed=0")

    def parts(name, *overrides):
        return load(taught(name, *projection, *overrides) / "private" / "distill.checkpoint")["parts"]

    plain = parts("plain")
    assert plain["critic"]["blocks.0.conv_fine.weight"].shape == (24, 1, 3, 3)
    penalised = parts("penalised", "discriminator.gradient_penalty=1000")
    assert not torch.equal(plain["critic"]["score.weight"], penalised["critic"]["score.weight"])
    matching = parts("matching", "discriminator.feature_matching=1", "student.adversarial_weight=0")
    assert "critic" in matching, "features are asked of it, though its score is not"
    without = parts("without", "student.adversarial_weight=0")
    assert "critic" not in without
    assert any(not torch.equal(weight, without["student"][name]) for name, weight in matching["student"].items())
