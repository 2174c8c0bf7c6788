"""`dpsad compare` on a run that was really made, and TensorBoard beside a stage."""

import functools
import json
import shutil

import pytest

from dpsad.commands import evaluate as judging
from dpsad.data.config import DataConfig
from dpsad.data.sources import load_images
from dpsad.evaluation.features import train_reference


@pytest.fixture
def evaluated(finished, command, tmp_path, monkeypatch):
    """A copy of the finished run, evaluated as quickly as may be."""
    run = tmp_path / "runs" / "evaluated"
    shutil.copytree(finished, run)
    records = load_images(DataConfig(share=0.144), "train")
    reference = train_reference(records.images, records.labels, num_classes=10, seed=0, epochs=1)
    reference.save(run / "private" / "reference_classifier.safetensors")
    monkeypatch.setattr(judging, "evaluate_samples", functools.partial(judging.evaluate_samples, epochs=1))
    code, printed = command("evaluate", run, "--num", 50, "--classifier", "logistic", "--no-compare")
    assert code == 0, printed
    return run


def test_what_stages_and_evaluation_wrote_arrives_in_the_comparison(finished, evaluated, command, tmp_path):
    measured = json.loads((evaluated / "private" / "evaluation.json").read_text())
    assert measured["sampling_images_per_second"] > 0
    code, printed = command("compare", evaluated, finished, tmp_path / "no-run", "--out", tmp_path / "out")
    assert code == 0, printed
    assert f"`dpsad evaluate {finished}` is missing" in printed
    assert "no-run is no run" in printed
    comparison = json.loads((tmp_path / "out" / "comparison.json").read_text())
    runs = {run["run"].rpartition("/")[2]: run for group in comparison["groups"] for run in group["runs"]}
    run, statement = runs["evaluated"], json.loads((evaluated / "release" / "privacy.json").read_text())
    assert (run["formal"], run["epsilon"], run["data"]) == (True, statement["epsilon"], "digits, a share of 0.144")
    assert run["accuracy_logistic"] == measured["student"]["classifiers"]["logistic"]["accuracy"]
    assert run["images_per_second"] == measured["sampling_images_per_second"]
    assert run["stage_seconds"].keys() == {"sketch", "teach", "distill", "refine"}
    assert 0 < run["training_minutes"] < 5
    assert "CPU thread" in run["hardware"] or measured["environment"]["device"] != "cpu"
    assert run["notes"] == []
    assert runs["finished"]["frechet"] is None
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<img") == 2 * 10, "a picture for each run and class, and no curve of one point"
    assert "real data was not measured" in page


def test_nothing_to_compare_is_one_clear_line(command, tmp_path):
    code, printed = command("compare", tmp_path, "--out", tmp_path / "out")
    assert (code, "error: there is no run to compare" in printed) == (2, True)


def test_tensorboard_is_an_option_of_every_stage_and_stays_out_of_the_release(command, tiny, tmp_path):
    pytest.importorskip("tensorboard", reason="no tensorboard here")
    run = tmp_path / "r"
    for verb in ("teach", "distill"):
        code, printed = command(verb, "--config", "digits", f"run={run}", *tiny, "log.tensorboard=true")
        assert code == 0, printed
    boards = {path.parent.relative_to(run).as_posix() for path in run.rglob("events.out.tfevents.*")}
    private = {f"private/tensorboard/{stage}" for stage in ("sketch", "teach", "distill", "refine")}
    assert boards == private | {"tensorboard/sketch", "tensorboard/refine"}
