"""`dpsad evaluate` on a run of 200 digits: what it writes, where, and what it says."""

import json
import shutil
from functools import partial

import pytest
import torch

from dpsad.api import judging as sampling
from dpsad.commands import evaluate as judging
from dpsad.data.config import DataConfig
from dpsad.data.sources import load_images


@pytest.fixture
def evaluate(finished, command, monkeypatch, tmp_path):
    """(*words) -> (exit code, what it printed, the run folder), on a copy of the run, classifiers barely trained."""
    monkeypatch.setattr(judging, "REFERENCE_BATCHES", 5)
    monkeypatch.setattr(judging, "evaluate_samples", partial(judging.evaluate_samples, epochs=2))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    return lambda *words: (*command("evaluate", run, "--num", 120, "--classifier", "logistic", *words), run)


def result_in(run):
    return json.loads((run / "private" / "evaluation.json").read_text())


def test_everything_asked_for_is_written_and_only_to_private(evaluate, finished):
    before = {path: path.read_bytes() for path in (finished / "release").iterdir()}
    code, printed, run = evaluate("--metrics", "all", "--ensemble", "2")
    assert code == 0, printed
    result = result_in(run)
    common = {"student", "real", "sketch", "features", "environment", "privacy", "no_classifiers", "hardware"}
    assert set(result) == common | {"memorisation", "sampling_images_per_second", "protocol", "num_test_images"}
    assert result["num_test_images"] == result["student"]["num_frechet_images"], "all of the test side, which is small"
    assert result["protocol"] == "quick, but 2 epochs"
    for name in ("student", "real", "sketch"):
        assert {"kernel_distance", "precision", "recall", "density", "coverage"} <= set(result[name]["metrics"])
        assert len(result[name]["classifiers"]["logistic"]["member_accuracies"]) == 2
    kept = json.loads((run / "private" / "memorisation.json").read_text())
    assert set(kept) == {"pixels", "cnn trained on the samples"}
    assert len(kept["pixels"]["train_index"]) == 120
    assert "train_index" not in json.dumps(result)
    assert set(result["memorisation"]) == {"closer_to_training", "false_alarm_rate", "num_images", "spaces", "caveat"}
    assert {path.name: path.read_bytes() for path in (run / "release").iterdir()} == {
        path.name: content for path, content in before.items()
    }
    assert not {"evaluation.json", "memorisation.json"} & {path.name for path in run.iterdir()}


def test_classifiers_may_learn_from_more_samples_than_there_are_records(evaluate):
    code, printed, run = evaluate("--num", "260", "--ensemble", "2")
    assert code == 0, printed
    result = result_in(run)
    assert (result["student"]["num_images"], result["real"]["num_images"]) == (260, 201)
    outcome = result["student"]["classifiers"]["logistic"]
    assert len(outcome["member_accuracies"]) == 2
    assert outcome["synthetic_accuracy"] * 52 == pytest.approx(round(outcome["synthetic_accuracy"] * 52)), "26 held out"


def test_the_summary_shows_the_worst_class(evaluate):
    code, printed, run = evaluate("--no-compare")
    assert code == 0, printed
    accuracies = result_in(run)["student"]["classifiers"]["logistic"]["per_class_accuracy"]
    assert f"logistic: worst class {accuracies.index(min(accuracies))} at {min(accuracies):.4f}" in printed
    assert "calibration" in printed
    assert result_in(run)["memorisation"] is None
    assert not (run / "private" / "memorisation.json").exists()


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_student_that_hands_out_training_images_is_found_and_one_with_unseen_images_is_not(
    evaluate, monkeypatch, split
):
    images = load_images(DataConfig(share=0.144), split).images[:40]
    monkeypatch.setattr(sampling, "generate", lambda student, labels, seed, progress: images)
    code, printed, run = evaluate("--metrics", "memorisation", "--no-compare")
    assert code == 0, printed
    assert result_in(run)["memorisation"]["closer_to_training"] is (split == "train")
    assert ("no closer to training" in printed) is (split == "test")


def test_missing_inception_weights_are_told_and_the_reference_keeps_its_own_name(evaluate, tmp_path):
    code, printed, run = evaluate("--inception", "cache", "--no-compare")
    assert code == 0, printed
    assert "no Inception weights (pt_inception-2015-12-05-6726825d.pth" in printed
    assert "are not FID" in printed
    assert result_in(run)["features"]["name"] == "reference-cnn"
    assert "Frechet" in printed
    code, printed, _ = evaluate("--inception", tmp_path / "nowhere.pth")
    assert (code, "no Inception weights at" in printed) == (2, True)


class Standard(torch.nn.Module):
    """In the place of Inception with the standard weights."""

    name, source, num_features = "inception-v3-fid", "a test", 64

    def __init__(self, path):
        super().__init__()
        self.path = path

    def forward(self, images):
        return images.flatten(1)

    def classify(self, features):
        return features[:, :10]

    def fingerprint(self):
        return "f" * 64


def test_inceptions_space_is_used_where_its_weights_are(evaluate, monkeypatch, tmp_path):
    weights = tmp_path / "hub" / "checkpoints" / "pt_inception-2015-12-05-6726825d.pth"
    weights.parent.mkdir(parents=True)
    weights.write_bytes(b"weights")
    seen = []
    monkeypatch.setattr(judging, "InceptionFeatures", lambda path: seen.append(path) or Standard(path))
    code, printed, run = evaluate("--inception", "cache", "--no-compare", "--metrics", "memorisation")
    assert code == 0, printed
    assert seen == [weights]
    assert result_in(run)["features"]["name"] == "inception-v3-fid"
    assert result_in(run)["memorisation"]["spaces"] == ["pixels", "inception-v3-fid"]
    assert "FID" in printed
    assert not (run / "private" / "reference_classifier.safetensors").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--metrics", "kernal"], "did you mean 'kernel'"),
        (["--classifier", "resnet"], "--classifier='resnet' must be one of logistic, mlp, cnn, wrn-40-4"),
    ],
)
def test_unknown_choices_are_refused(evaluate, words, message):
    code, printed, run = evaluate(*words)
    assert (code, message in printed) == (2, True), printed
    assert not (run / "private" / "evaluation.json").exists()


def test_a_run_that_saw_other_records_is_told(evaluate, finished):
    """Such as one from before ids, and so the sides, went by content."""
    code, printed, run = evaluate("--no-compare")
    assert (code, "not those that the run was begun with" in printed) == (0, False), printed
    (run / "private" / "records.fingerprint").write_text("of others\n", encoding="utf-8")
    code, printed, _ = evaluate("--no-compare")
    assert (code, "warning: the training records are not those that the run was begun with" in printed) == (0, True)
