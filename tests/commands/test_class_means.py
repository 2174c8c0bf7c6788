"""The baseline of docs/extending.md, on 200 digits: the whole command, a crash, and the release."""

import json
from functools import partial

import numpy as np
import pytest
import torch

from dpsad import load_student
from dpsad.commands import evaluate as judging
from dpsad.methods import class_means
from dpsad.runtime.checkpoint import load

DATA = ("--config", "digits-class-means", "data.share=0.144", "privacy.num_records=200", "privacy.delta=1e-3")


@pytest.fixture
def words(tmp_path):
    return (*DATA, f"run={tmp_path / 'run'}")


def test_means_are_released_sampled_and_measured_under_the_budget(command, words, tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "REFERENCE_BATCHES", 5)
    monkeypatch.setattr(judging, "evaluate_samples", partial(judging.evaluate_samples, epochs=2))
    run = tmp_path / "run"
    code, account = command("account", *words)
    assert code == 0, account
    code, printed = command("baseline", *words)
    assert code == 0, printed
    statement = json.loads((run / "release" / "privacy.json").read_text())
    assert (statement["method"], statement["formal"], statement["guarantee"]) == ("class-means", True, "records")
    assert 9.5 < statement["epsilon"] <= 10
    assert f"epsilon so far {statement['epsilon']:.3f}" in account
    (event,) = statement["events"]
    assert (event["purpose"], event["clip_norm"], event["num_releases"]) == ("class means", 1.0, 1)
    card = (run / "release" / "README.md").read_text()
    assert "in one variation of a released image each" in card
    assert "there already" in command("baseline", f"run={run}")[1]

    student = load_student(run / "release")
    assert student.model.images.std() > 0.1, "weights are loaded"
    held = load(run / "private" / "class_means.checkpoint")["parts"]["model"]
    assert all(torch.equal(value, held[name]) for name, value in student.model.state_dict().items())
    assert command("sample", run, "--num", 12, "--out", tmp_path / "a.npz")[0] == 0
    assert np.load(tmp_path / "a.npz")["images"].shape == (12, 8, 8)
    code, printed = command("evaluate", run, "--num", 40, "--classifier", "logistic", "--no-compare")
    assert code == 0, printed
    code, printed = command("compare", run, "--out", tmp_path / "comparison")
    assert (code, "class-means" in printed) == (0, True), printed


@pytest.mark.parametrize(("stated", "said"), [(150, "number of records, 150"), (99, ""), (0, "100 records or more")])
def test_the_statement_says_that_delta_is_too_large_of_public_numbers_alone(command, tmp_path, stated, said):
    """The means do not go by the number of records: where nobody states it, nothing may follow from its 200."""
    run = tmp_path / "run"
    changes = (f"privacy.num_records={stated}", "privacy.delta=0.01", f"run={run}")
    assert command("baseline", *DATA[:2], "data.limit=200", *changes)[0] == 0
    statement = json.loads((run / "release" / "privacy.json").read_text())
    found = [item for item in statement["not_covered"] if "whole now and then" in item]
    assert len(found) == bool(said)
    assert said in "".join(found)
    assert "200" not in json.dumps(statement["not_covered"])


def test_a_run_that_broke_after_the_release_does_not_release_again(command, words, tmp_path, monkeypatch):
    """A second sum with fresh noise would cost the budget twice, and the statement would say once."""

    def broken(*args, **kwargs):
        raise RuntimeError("power cut")

    path = tmp_path / "run" / "private" / "class_means.checkpoint"
    with monkeypatch.context() as patch:
        patch.setattr(class_means, "formally", broken)
        with pytest.raises(RuntimeError, match="power cut"):
            command("baseline", *words)
    before = load(path)["parts"]
    assert before["sanitizer"]["num_made"] == 1
    code, printed = command("baseline", *words, "class_means.count_share=0.2")
    assert (code, "already holds another run" in printed) == (2, True), printed
    assert command("baseline", *words)[0] == 0
    after = load(path)["parts"]
    assert torch.equal(before["model"]["images"], after["model"]["images"])
    assert len(after["sanitizer"]["ledger"]["entries"]) == 1
    assert torch.equal(load_student(tmp_path / "run").model.images, before["model"]["images"])
