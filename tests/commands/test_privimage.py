"""PrivImage on 200 digits, after public images of 12 other classes: whole commands, stopped ones, and the release."""

import json

import numpy as np
import pytest
import torch

from dpsad import load_student
from dpsad.methods import privimage
from dpsad.privacy.statement import PUBLIC_IMAGES
from dpsad.runtime.checkpoint import load

TINY = (
    "method=privimage", "network.channels=8", "network.multipliers=[1]", "pretrain.steps=2", "pretrain.batch_size=8",
    "privimage.noise_multiplier=3", "privimage.classifier_epochs=1", "baseline.steps=2", "baseline.batch_size=40",
    "baseline.noise_multiplicity=1", "sampler.steps=2", "data.share=0.144", "privacy.num_records=200",
)  # fmt: skip


@pytest.fixture
def words(tmp_path):
    path, draw = tmp_path / "public.npz", np.random.default_rng(0)
    np.savez(path, images=draw.integers(0, 256, (300, 8, 8)).astype(np.uint8), labels=np.arange(300) % 12)
    public = ("public_data.source=npz", f"public_data.path={path}")
    return ("--config", "digits", *TINY, *public, f"run={tmp_path / 'run'}")


def test_both_releases_are_in_the_statement_and_in_what_account_prints(command, words, tmp_path):
    run = tmp_path / "run"
    code, account = command("account", *words)
    assert code == 0, account
    code, printed = command("baseline", *words)
    assert code == 0, printed
    statement = json.loads((run / "release" / "privacy.json").read_text())
    assert (statement["method"], statement["formal"]) == ("privimage", True)
    assert 9.5 < statement["epsilon"] <= 10
    assert [(event["purpose"], event["num_releases"]) for event in statement["events"]] == [
        ("privimage, histogram of public classes", 1), ("privimage, gradient rows", 2),
    ]  # fmt: skip
    assert f"epsilon so far {statement['epsilon']:.3f}" in account
    assert PUBLIC_IMAGES in statement["not_covered"]
    assert load_student(run / "release").sample(torch.tensor([3, 9]), seeds=[1, 2]).shape == (2, 1, 8, 8)
    assert "there already" in command("baseline", f"run={run}")[1]


def test_a_run_that_broke_after_the_histogram_does_not_release_it_again(command, words, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("power cut")

    path = tmp_path / "run" / "private" / "semantic_query.checkpoint"
    with monkeypatch.context() as patch:
        patch.setattr(privimage, "fit_to_records", broken)
        with pytest.raises(RuntimeError, match="power cut"):
            command("baseline", *words)
    before = load(path)["parts"]
    code, printed = command("baseline", *words, "privimage.noise_multiplier=5")
    assert (code, "privimage.noise_multiplier" in printed) == (2, True), printed
    monkeypatch.setattr(privimage, "train_classifier", broken)  # nobody needs it again
    assert command("baseline", *words)[0] == 0
    after = load(path)["parts"]
    assert torch.equal(before["held"]["sums"][0], after["held"]["sums"][0])
    assert len(after["sanitizer"]["ledger"]["entries"]) == 1


def test_what_does_not_fit_is_refused_before_anything_is_spent(command, words, tmp_path):
    for wrong in ("privimage.selected=2", "privimage.noise_multiplier=0.01"):
        code, printed = command("baseline", *words, wrong)
        assert code == 2, printed
        assert not (tmp_path / "run" / "private" / "semantic_query.checkpoint").exists()
