"""The baseline command on 200 digits: the same release as a student's, and what it refuses."""

import json
import os
import signal

import pytest
import torch

from dpsad import load_student
from dpsad.diffusion.parameterisations import PARAMETERISATIONS
from dpsad.runtime.checkpoint import load
from dpsad.training import dp_sgd

TINY = (
    "method=dpdm",
    "network.channels=8",
    "baseline.steps=2",
    "baseline.batch_size=40",
    "baseline.parameterisation=v",
    "sampler.steps=2",
    "data.share=0.144",
    "privacy.num_records=200",
)


@pytest.fixture
def words(tmp_path):
    return ("--config", "digits", f"run={tmp_path / 'run'}", *TINY)


def test_a_baseline_releases_what_a_student_does_under_the_same_budget(command, words, tmp_path):
    run = tmp_path / "run"
    code, account = command("account", *words)
    assert code == 0
    code, printed = command("baseline", *words)
    assert code == 0, printed
    names = {path.name for path in (run / "release").iterdir()}
    assert names == {"student.safetensors", "config.yaml", "privacy.json", "samples.png", "README.md"}
    statement = json.loads((run / "release" / "privacy.json").read_text())
    assert (statement["method"], statement["guarantee"], statement["formal"]) == ("dpdm", "records", True)
    assert 9.5 < statement["epsilon"] <= 10
    (event,) = statement["events"]
    assert (event["purpose"], event["num_releases"], event["sampling_prob"]) == ("dpdm, gradient rows", 2, 0.2)
    assert f"dpdm, gradient rows: 2 x noise multiplier {event['noise_multiplier']:.3f}" in account
    assert f"epsilon so far {statement['epsilon']:.3f}" in account
    student = load_student(run)
    assert student.model.parameterisation is PARAMETERISATIONS["v"]
    assert student.sample(torch.tensor([3, 7]), seeds=[1, 2]).shape == (2, 1, 8, 8)
    weights = load(run / "private" / "baseline.checkpoint")["parts"]["ema"]["model"]
    assert all(torch.equal(value, weights[name]) for name, value in student.model.state_dict().items())
    assert "there already" in command("baseline", f"run={run}")[1]


def test_a_baseline_that_was_stopped_goes_on_without_a_second_charge(command, words, tmp_path, monkeypatch):
    rows, stopped = dp_sgd.per_example_gradients, []

    def interrupted_rows(*args):
        if not stopped:
            stopped.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return rows(*args)

    monkeypatch.setattr(dp_sgd, "per_example_gradients", interrupted_rows)
    code, printed = command("baseline", *words)
    assert (code, "stopped after 1 steps" in printed) == (130, True)
    code, printed = command("baseline", *words, "baseline.learning_rate=1")
    assert (code, "already holds another run" in printed) == (2, True)
    assert command("baseline", *words)[0] == 0
    assert len(json.loads((tmp_path / "run" / "release" / "privacy.json").read_text())["events"]) == 1


@pytest.mark.parametrize(
    ("verb", "more", "message"),
    [
        ("baseline", "method=dp-sad", "method=dp-sad is no baseline; pass method=dpdm"),
        ("baseline", "method=dpmd", "did you mean 'dpdm'"),
        ("baseline", "guarantee=nominal", "method=dpdm needs guarantee=records"),
        ("baseline", "baseline.batch_size=500", "baseline.batch_size=500 is more than the 200 records"),
        ("teach", "seed=0", "method=dpdm is trained by `dpsad baseline"),
        ("distill", "seed=0", "method=dpdm is trained by `dpsad baseline"),
    ],
)
def test_what_does_not_fit_together_is_refused(command, words, tmp_path, verb, more, message):
    code, printed = command(verb, *words, more)
    assert (code, message in printed) == (2, True), printed
    assert not (tmp_path / "run" / "release").exists()


def test_help_says_what_each_method_is_and_costs(command):
    code, printed = command("baseline", "--help")
    assert code == 0
    assert "method=dpdm: DPDM (Dockhorn et al. 2023)" in printed
    assert "Costs" in printed
