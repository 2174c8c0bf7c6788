"""Private evolution on 200 digits, after public images of other things: whole commands, stopped ones, the release."""

import json
import os
import signal

import numpy as np
import pytest
import torch

from dpsad import load_student
from dpsad.methods import private_evolution
from dpsad.privacy.statement import PUBLIC_IMAGES
from dpsad.runtime.checkpoint import load

TINY = (
    "method=private-evolution", "network.channels=8", "network.multipliers=[1]", "pretrain.steps=2",
    "pretrain.batch_size=8", "private_evolution.rounds=3", "private_evolution.population=4",
    "private_evolution.variation_steps=1", "sampler.steps=2", "data.share=0.144", "privacy.num_records=200",
)  # fmt: skip


@pytest.fixture
def words(tmp_path):
    """The command's, with random public images of 3 classes."""
    path, draw = tmp_path / "public.npz", np.random.default_rng(0)
    np.savez(path, images=draw.integers(0, 256, (60, 8, 8)).astype(np.uint8), labels=np.arange(60) % 3)
    public = (f"public_data.path={path}", "public_data.source=npz")
    return ("--config", "digits", *TINY, *public, f"run={tmp_path / 'run'}")


def test_a_population_is_released_with_its_votes_under_the_budget(command, words, tmp_path):
    run = tmp_path / "run"
    code, account = command("account", *words)
    assert code == 0, account
    code, printed = command("baseline", *words)
    assert code == 0, printed
    statement = json.loads((run / "release" / "privacy.json").read_text())
    assert (statement["method"], statement["formal"]) == ("private-evolution", True)
    assert 9.5 < statement["epsilon"] <= 10
    (event,) = statement["events"]
    assert (event["purpose"], event["num_releases"]) == ("private-evolution, votes for images", 3)
    assert (event["clip_norm"], event["sampling_prob"]) == (1.0, 1.0)
    assert f"epsilon so far {statement['epsilon']:.3f}" in account
    assert PUBLIC_IMAGES in statement["not_covered"]
    student = load_student(run / "release")
    assert student.model.images.shape == (40, 1, 8, 8)
    held = load(run / "private" / "private_evolution.checkpoint")["parts"]["model"]
    assert all(torch.equal(value, held[name]) for name, value in student.model.state_dict().items())
    assert student.sample(torch.tensor([3, 9]), seeds=[1, 2]).shape == (2, 1, 8, 8)
    assert "there already" in command("baseline", f"run={run}")[1]


def test_a_stopped_run_goes_on_without_a_second_charge_or_vote(command, words, tmp_path, monkeypatch):
    function, calls = private_evolution.vote_rows, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return function(*args)

    monkeypatch.setattr(private_evolution, "vote_rows", interrupted)
    code, printed = command("baseline", *words)
    assert (code, "stopped after 2 steps" in printed) == (130, True), printed
    code, printed = command("baseline", *words, "private_evolution.threshold=1")
    assert (code, "already holds another run" in printed) == (2, True), printed
    assert command("baseline", *words)[0] == 0
    assert len(calls) == 3, "the rounds that were left, and no more"
    sanitizer = load(tmp_path / "run" / "private" / "private_evolution.checkpoint")["parts"]["sanitizer"]
    assert (len(sanitizer["ledger"]["entries"]), sanitizer["num_made"]) == (1, 3)


def test_public_images_of_another_size_are_refused_before_anything_is_spent(command, words, tmp_path):
    images = np.random.default_rng(1).integers(0, 256, (20, 9, 9)).astype(np.uint8)
    np.savez(tmp_path / "public.npz", images=images, labels=np.arange(20) % 3)
    code, printed = command("baseline", *words)
    assert (code, "public_data.image_size" in printed) == (2, True), printed
    assert not (tmp_path / "run" / "private" / "private_evolution.checkpoint").exists()
