"""DP-LDM on 200 digits, with drawn noise as public images: what it releases, what it trains, and what it refuses."""

import json
from functools import partial

import numpy as np
import pytest
import torch

from dpsad import load_student
from dpsad.api import launch
from dpsad.commands import evaluate as judging
from dpsad.diffusion.denoiser import Denoiser
from dpsad.methods.public_denoiser import with_new_classes
from dpsad.networks.config import NetworkConfig
from dpsad.networks.unet import UNet
from dpsad.release.students import Releasable
from dpsad.runtime.checkpoint import load, save_atomic

TINY = (
    "method=dp-ldm",
    "network.channels=8",
    "network.attention_levels=[0,1]",
    "network.label_tokens=2",
    "autoencoder.channels=8",
    "autoencoder.patch=1",
    "compress.steps=3",
    "pretrain.steps=3",
    "baseline.steps=2",
    "baseline.batch_size=40",
    "baseline.learning_rate=0.01",
    "sampler.steps=2",
    "data.share=0.144",
    "privacy.num_records=200",
    "precision=float32",
)


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """A public set of 60 images in four classes, which are not those of the digits."""
    path = tmp_path_factory.mktemp("public") / "public.npz"
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (60, 8, 8), np.uint8), np.arange(60)[:, None] % 4
    np.savez(path, train_images=images, train_labels=labels, test_images=images, test_labels=labels)
    return path


@pytest.fixture
def words(public, tmp_path):
    run = tmp_path / "run"
    return ("--config", "digits", f"run={run}", "public_data.source=npz", f"public_data.path={public}", *TINY)


def test_a_release_holds_decoder_and_denoiser_and_samples_as_any_other(command, words, tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "REFERENCE_BATCHES", 5)
    monkeypatch.setattr(judging, "evaluate_samples", partial(judging.evaluate_samples, epochs=2))
    run = tmp_path / "run"
    code, account = command("account", *words)
    assert code == 0, account
    code, printed = command("baseline", *words)
    assert code == 0, printed
    names = {path.name for path in (run / "release").iterdir()}
    assert names == {"student.safetensors", "config.yaml", "privacy.json", "samples.png", "README.md"}
    statement = json.loads((run / "release" / "privacy.json").read_text())
    assert (statement["method"], statement["guarantee"], statement["formal"]) == ("dp-ldm", "records", True)
    (event,) = statement["events"]
    assert (event["purpose"], event["num_releases"], event["sampling_prob"]) == ("dp-ldm, gradient rows", 2, 0.2)
    assert f"dp-ldm, gradient rows: 2 x noise multiplier {event['noise_multiplier']:.3f}" in account
    code, printed = command("sample", run, "--num", "20", "--out", tmp_path / "samples.npz")
    assert code == 0, printed
    samples = np.load(tmp_path / "samples.npz")
    assert (samples["images"].shape, samples["labels"].tolist()) == ((20, 8, 8), list(range(10)) * 2)
    code, printed = command("evaluate", run, "--num", "40", "--classifier", "logistic")
    assert code == 0, printed
    code, printed = command("compare", run, "--out", tmp_path / "comparison")
    assert (code, "dp-ldm" in printed) == (0, True), printed


def test_a_loaded_student_makes_the_same_images(command, words, tmp_path, monkeypatch):
    made: list[Releasable] = []
    export = launch.export_release
    monkeypatch.setattr(launch, "export_release", lambda *args: (made.append(args[1]), export(*args)))
    for more in ("fine_tune.parameters=attention", "fine_tune.parameters=lora", "fine_tune.parameters=all"):
        run = tmp_path / more
        code, printed = command("baseline", *words, more, f"run={run}")
        assert code == 0, printed
        labels, seeds = torch.arange(10), list(range(10))
        images = load_student(run).sample(labels, seeds)
        assert torch.equal(images, made[-1].student().sample(labels, seeds))
        assert images.std() > 0.01


@pytest.mark.parametrize(("parameters", "low", "high"), [("attention", 0.05, 0.3), ("lora", 0.01, 0.2), ("all", 1, 1)])
def test_what_is_frozen_stays_as_public_images_made_it(command, words, tmp_path, parameters, low, high):
    run = tmp_path / "run"
    code, printed = command("baseline", *words, f"fine_tune.parameters={parameters}")
    assert code == 0, printed
    before, after = load(run / "private" / "pretrained.pt")["model"], load_student(run).model.denoiser.state_dict()
    assert before.keys() == after.keys(), "an ordinary network"
    embeds_label = {name for name in after if "embed_label" in name or "embed_tokens" in name}
    moved = {name for name in after if name in embeds_label or not torch.equal(before[name], after[name])}
    may_move = {name for name in after if parameters == "all" or "attend" in name or name in embeds_label}
    if parameters == "lora":
        may_move -= {name for name in after if "attend" in name and name.endswith("bias")}
    assert moved == may_move
    autoencoder = load(run / "private" / "autoencoder.pt")["model"]
    for name, weight in load_student(run).model.decoder.state_dict().items():
        assert torch.equal(weight, autoencoder[f"decoder.{name}"])
    (line,) = [line for line in (run / "metrics.jsonl").read_text().splitlines() if "trained_fraction" in line]
    fraction = json.loads(line)["trained_fraction"]
    assert low <= fraction <= high
    card = (run / "release" / "README.md").read_text()
    assert (f"Records have changed {fraction:.1%} of its denoiser's parameters" in card) == (fraction < 1)
    assert f"fine_tuned: {fraction}" in (run / "release" / "config.yaml").read_text()


def test_each_class_keeps_what_it_was_drawn_with_in_both_of_its_embeddings(make_denoiser):
    """Ten classes after three; "no label" stays itself, and so does all that knows no classes."""
    shape = {"attention_levels": (0,), "label_tokens": 2, "channels": 8, "multipliers": (1,)}
    public = make_denoiser(**shape)
    new = Denoiser(UNet(NetworkConfig(**shape, label_spread=3.0), image_channels=1, num_classes=10))
    drawn = {name: weight.clone() for name, weight in new.state_dict().items()}
    with_new_classes(public, new)
    for embedding in ("embed_label", "embed_tokens"):
        before, after = (getattr(model.network, embedding).weight for model in (public, new))
        assert torch.equal(after[:, :-1], drawn[f"network.{embedding}.weight"][:, :-1])
        assert torch.equal(after[:, -1], before[:, -1])
    assert torch.equal(new.network.down[0][0].attend.project.weight, public.network.down[0][0].attend.project.weight)


def test_a_run_starts_from_another_s_public_models(command, words, tmp_path):
    first, second = tmp_path / "run", tmp_path / "second"
    assert command("baseline", *words)[0] == 0
    path = first / "private" / "pretrained.pt"
    code, printed = command("baseline", *words, f"run={second}", f"pretrain.path={path}")
    assert code == 0, printed
    assert not (second / "private" / "autoencoder.pt").exists()
    one, other = (load_student(run).model.decoder.state_dict() for run in (first, second))
    assert all(torch.equal(weight, other[name]) for name, weight in one.items())
    third = (f"run={tmp_path / 'third'}", f"pretrain.path={path}", "autoencoder.channels=4")
    code, printed = command("baseline", *words, *third)
    assert (code, "the autoencoder at" in printed) == (2, True), printed
    autoencoder = load(first / "private" / "autoencoder.pt")
    save_atomic({**autoencoder, "provenance": "private"}, first / "private" / "autoencoder.pt")
    code, printed = command("baseline", *words, f"run={tmp_path / 'fourth'}", f"pretrain.path={path}")
    assert (code, "has provenance 'private'" in printed) == (2, True), printed
    (first / "private" / "autoencoder.pt").unlink()
    code, printed = command("baseline", *words, f"run={tmp_path / 'fourth'}", f"pretrain.path={path}")
    assert (code, "no autoencoder at" in printed) == (2, True), printed


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("public_data.source=digits public_data.path=null", "are records themselves"),
        ("data.image_size=10", "the autoencoder makes images of shape [1, 8, 8], the records are of shape [1, 10, 10]"),
        ("fine_tune.parameters=attn", "fine_tune.parameters='attn' must be one of attention, lora, all"),
    ],
)
def test_what_does_not_fit_together_is_refused(command, words, tmp_path, more, message):
    code, printed = command("baseline", *words, *more.split())
    assert (code, message in printed) == (2, True), printed
    assert not (tmp_path / "run" / "release").exists()
