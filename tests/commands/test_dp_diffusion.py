"""DP-Diffusion on 200 digits, after public images of other things: what is read when, and what records start from."""

import json
import os
import signal

import numpy as np
import pytest
import torch

from dpsad import load_student
from dpsad.methods import public_denoiser as pretraining
from dpsad.runtime.checkpoint import load, save_atomic
from dpsad.runtime.context import Context
from dpsad.training import dp_sgd

LABELS = "network.embed_label.weight"
TINY = (
    "method=dp-diffusion",
    "network.channels=8",
    "pretrain.steps=3",
    "pretrain.batch_size=16",
    "baseline.steps=2",
    "baseline.batch_size=40",
    "baseline.noise_multiplicity=2",
    "baseline.timesteps=[0, 300, 1000]",
    "baseline.timestep_weights=[0.2, 0.8]",
    "augmentation.shift=0.1",
    "sampler.steps=2",
    "data.share=0.144",
    "privacy.num_records=200",
)


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """Random images of 3 classes."""
    path, draw = tmp_path_factory.mktemp("public") / "public.npz", np.random.default_rng(0)
    np.savez(path, images=draw.integers(0, 256, (60, 8, 8)).astype(np.uint8), labels=np.arange(60) % 3)
    return (f"public_data.path={path}", "public_data.source=npz")


@pytest.fixture
def words(public, tmp_path):
    return ("--config", "digits", f"run={tmp_path / 'run'}", *TINY, *public)


@pytest.fixture(scope="module")
def pretrained(public, tmp_path_factory):
    """private/pretrained.pt of a run that got no further than its records."""
    run = tmp_path_factory.mktemp("runs") / "pretrained"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Context, "read_records", refuse)
        patch.setattr("sys.argv", ["dpsad", "baseline", "--config", "digits", f"run={run}", *TINY, *public])
        from dpsad.cli import main

        with pytest.raises(SystemExit):
            main()
    return run / "private" / "pretrained.pt"


def refuse(*args):
    raise ValueError("the records are read")


def test_it_releases_a_student_under_the_budget_that_account_prints(command, words, tmp_path):
    run = tmp_path / "run"
    code, account = command("account", *words)
    assert code == 0
    code, printed = command("baseline", *words)
    assert code == 0, printed
    statement = json.loads((run / "release" / "privacy.json").read_text())
    assert (statement["method"], statement["formal"]) == ("dp-diffusion", True)
    assert 9.5 < statement["epsilon"] <= 10
    (event,) = statement["events"]
    assert (event["purpose"], event["num_releases"], event["sampling_prob"]) == ("dp-diffusion, gradient rows", 2, 0.2)
    assert f"dp-diffusion, gradient rows: 2 x noise multiplier {event['noise_multiplier']:.3f}" in account
    assert f"epsilon so far {statement['epsilon']:.3f}" in account
    assert load_student(run).sample(torch.tensor([3, 9]), seeds=[1, 2]).shape == (2, 1, 8, 8)
    assert "there already" in command("baseline", f"run={run}")[1]


def test_pretraining_is_over_before_records_are_learned_from(command, words, tmp_path, monkeypatch):
    monkeypatch.setattr(Context, "read_records", refuse)
    code, printed = command("baseline", *words)
    assert (code, "the records are read" in printed) == (2, True)
    saved = load(tmp_path / "run" / "private" / "pretrained.pt")
    assert (saved["provenance"], len(saved["subject"]["class_names"])) == ("public", 3)
    assert not (tmp_path / "run" / "private" / "baseline.checkpoint").exists()


def test_the_pretrained_model_is_the_same_whatever_the_records_are(command, words, tmp_path, monkeypatch):
    """They are compared with the public images, and no more."""
    monkeypatch.setattr(Context, "read_records", refuse)
    images = np.random.default_rng(1).integers(0, 256, (100, 9, 9)).astype(np.uint8)
    np.savez(tmp_path / "other.npz", images=images, labels=np.arange(100) % 3)
    other = ("data.source=npz", f"data.path={tmp_path}/other.npz", "privacy.num_records=100", "privacy.epsilon=1")
    command("baseline", *words)
    command("baseline", *words, *other, f"run={tmp_path / 'other'}")
    one, two = (load(tmp_path / run / "private" / "pretrained.pt") for run in ("run", "other"))
    assert one["subject"] == two["subject"]
    assert all(torch.equal(weight, two["model"][name]) for name, weight in one["model"].items())


def test_records_start_from_the_pretrained_weights_with_classes_of_their_own(
    command, words, pretrained, tmp_path, monkeypatch
):
    """Read off at the first row, which is before any step."""
    found = []

    def caught(model, losses, num_examples):
        found.append({name: weight.clone() for name, weight in model.state_dict().items()})
        raise ValueError("far enough")

    monkeypatch.setattr(dp_sgd, "per_example_gradients", caught)
    monkeypatch.setattr(pretraining, "train_denoiser", refuse)
    code, printed = command("baseline", *words, f"pretrain.path={pretrained}", "privacy.epsilon=2")
    assert (code, "far enough" in printed) == (2, True), printed
    start, saved = found[0], load(pretrained)["model"]
    assert all(torch.equal(weight, saved[name]) for name, weight in start.items() if name != LABELS)
    assert (start[LABELS].shape[1], saved[LABELS].shape[1]) == (11, 4), "ten digits, three public classes, and none"
    alike = start[LABELS][:, :-1].T[:, None] == saved[LABELS].T[None]
    assert not alike.all(2).any(), "no class of the records is a public one"
    assert torch.equal(start[LABELS][:, -1], saved[LABELS][:, -1]), "no label stays no label"


@pytest.mark.parametrize("interrupted", ["denoising_loss", "per_example_gradients"])
def test_a_run_that_was_stopped_goes_on_without_a_second_charge(command, words, tmp_path, monkeypatch, interrupted):
    from dpsad.training import denoiser as teach

    room = teach if interrupted == "denoising_loss" else dp_sgd
    function, stopped = getattr(room, interrupted), []

    def interrupting(*args):
        if not stopped:
            stopped.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return function(*args)

    monkeypatch.setattr(room, interrupted, interrupting)
    code, printed = command("baseline", *words)
    assert (code, "stopped after 1 steps" in printed) == (130, True)
    code, printed = command("baseline", *words, "pretrain.batch_size=3")
    assert (code, "already holds another run" in printed) == (2, True)
    assert command("baseline", *words)[0] == 0
    assert len(json.loads((tmp_path / "run" / "release" / "privacy.json").read_text())["events"]) == 1


def test_only_a_model_that_saw_nothing_private_is_started_from(command, words, pretrained, tmp_path):
    for provenance in ("private", "released"):
        save_atomic({**load(pretrained), "provenance": provenance}, tmp_path / "model.pt")
        code, printed = command("baseline", *words, f"pretrain.path={tmp_path / 'model.pt'}")
        assert (code, f"has provenance '{provenance}'" in printed) == (2, True), printed
        assert not (tmp_path / "run" / "private" / "baseline.checkpoint").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "public_data.source=digits public_data.path=null",
            "taken to be public are records themselves",
        ),
        ("pretrain.path=nowhere.pt", "no pretrained model at pretrain.path=nowhere.pt"),
        ("augmentation.noise=0.1", "records are viewed through geometry alone"),
        ("guarantee=nominal", "method=dp-diffusion needs guarantee=records"),
        ("pretrain.steps=0", "pretrain.steps=0 must be in"),
        ("baseline.timestep_weights=[1]", "give one weight a range"),
    ],
)
def test_what_does_not_fit_together_is_refused(command, words, tmp_path, more, message):
    code, printed = command("baseline", *words, *more.split())
    assert (code, message in printed) == (2, True), printed
    assert not (tmp_path / "run" / "private" / "pretrained.pt").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("network.channels=16", "was built with network="),
        ("baseline.parameterisation=v", "was built with parameterisation=edm, this run has v"),
    ],
)
def test_a_pretrained_model_of_another_kind_is_refused(command, words, pretrained, more, message):
    code, printed = command("baseline", *words, f"pretrain.path={pretrained}", more)
    assert (code, message in printed) == (2, True), printed


def test_public_images_with_other_channels_are_refused(command, words, tmp_path):
    draw = np.random.default_rng(0)
    np.savez(tmp_path / "c.npz", images=draw.integers(0, 256, (60, 8, 8, 3)).astype(np.uint8), labels=np.arange(60) % 3)
    code, printed = command("baseline", *words, f"public_data.path={tmp_path / 'c.npz'}")
    assert (code, "see public_data.grey" in printed) == (2, True), printed
