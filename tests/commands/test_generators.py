"""Baselines whose student is a one-pass generator, on 200 digits: whole commands, stopped ones, and the release."""

import json
import os
import signal
from functools import partial

import numpy as np
import pytest
import torch

from dpsad import load_student
from dpsad.commands import evaluate as judging
from dpsad.methods import dp_kernel, dp_merf, gs_wgan
from dpsad.runtime.checkpoint import load
from students.generator import Generator

DATA = ("data.share=0.144", "privacy.num_records=200", "privacy.delta=1e-3")
METHODS = {
    "dp-merf": (
        "method=dp-merf", "dp_merf.num_features=100", "dp_merf.step_features=40", "dp_merf.steps=3",
        "dp_merf.batch_size=20", "dp_merf.generator.channels=4",
    ),
    "dp-kernel": (
        "method=dp-kernel", "dp_kernel.rounds=3", "dp_kernel.landmarks=4", "dp_kernel.steps=1",
        "dp_kernel.batch_size=20", "dp_kernel.generator.channels=4",
    ),
    "gs-wgan": (
        "method=gs-wgan", "guarantee=shards", "gs_wgan.num_shards=8", "gs_wgan.shards_per_step=4", "gs_wgan.steps=3",
        "gs_wgan.batch_size=6", "gs_wgan.critic_batch_size=4", "gs_wgan.critic_steps=1", "gs_wgan.warm_steps=1",
        "gs_wgan.generator.channels=4",
    ),
}  # fmt: skip
EVENTS = {
    "dp-merf": {"purpose": "dp-merf, mean embedding", "unit": "record", "clip_norm": 1.0, "num_releases": 1,
                "sampling_prob": 1.0},
    "dp-kernel": {"purpose": "dp-kernel, kernel mean", "unit": "record", "clip_norm": 1.0, "num_releases": 3,
                  "sampling_prob": 1.0},
    "gs-wgan": {"purpose": "gs-wgan, gradients of shards' critics", "unit": "shard", "num_releases": 3,
                "clip_norm": pytest.approx(0.5 * 6**0.5), "sampling_prob": 0.5},
}  # fmt: skip


@pytest.fixture(params=METHODS)
def method(request):
    return request.param


@pytest.fixture
def words(method, tmp_path):
    return (*DATA, *METHODS[method], f"run={tmp_path / 'run'}")


def test_a_generator_is_released_sampled_and_measured_under_the_budget(command, method, words, tmp_path, monkeypatch):
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
    assert (statement["method"], statement["formal"]) == (method, True)
    assert statement["guarantee"] == ("shards" if method == "gs-wgan" else "records")
    assert 9.5 < statement["epsilon"] <= 10
    (event,) = statement["events"]
    assert {key: event[key] for key in EVENTS[method]} == EVENTS[method]
    assert f"noise multiplier {event['noise_multiplier']:.3f}" in account
    assert f"epsilon so far {statement['epsilon']:.3f}" in account
    card = (run / "release" / "README.md").read_text()
    assert "in one pass of a generator" in card
    assert "denoising" not in card
    assert "there already" in command("baseline", f"run={run}")[1]

    student = load_student(run / "release")
    assert isinstance(student.model, Generator)
    weights = load(run / "private" / f"{method.replace('-', '_')}.checkpoint")["parts"]["ema"]["model"]
    released = student.model.state_dict()
    assert released.keys() == weights.keys()
    assert all(torch.equal(value, weights[name]) for name, value in released.items())
    assert command("sample", run, "--num", 12, "--out", tmp_path / "a.npz")[0] == 0
    assert np.load(tmp_path / "a.npz")["images"].shape == (12, 8, 8)
    code, printed = command("evaluate", run, "--num", 40, "--classifier", "logistic", "--no-compare")
    assert code == 0, printed
    code, printed = command("compare", run, "--out", tmp_path / "comparison")
    assert (code, method in printed) == (0, True), printed


def test_a_stopped_run_goes_on_without_a_second_charge_or_release(command, method, words, tmp_path, monkeypatch):
    module, name = {
        "dp-merf": (dp_merf, "squared_distance"),
        "dp-kernel": (dp_kernel, "discrepancy"),
        "gs-wgan": (gs_wgan, "shard_rows"),
    }[method]
    function, calls = getattr(module, name), []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return function(*args)

    monkeypatch.setattr(module, name, interrupted)
    section = method.replace("-", "_")
    code, printed = command("baseline", *words)
    assert (code, "stopped after 1 steps" in printed) == (130, True), printed
    path = tmp_path / "run" / "private" / f"{section}.checkpoint"
    before = load(path)["parts"]
    code, printed = command("baseline", *words, f"{section}.learning_rate=0.5")
    assert (code, "already holds another run" in printed) == (2, True), printed
    assert command("baseline", *words)[0] == 0
    assert len(calls) == 3, "the steps that were left, and no more"
    after = load(path)["parts"]
    assert len(after["sanitizer"]["ledger"]["entries"]) == 1
    assert after["sanitizer"]["num_made"] == EVENTS[method]["num_releases"]
    if method == "dp-merf":
        assert torch.equal(before["embedding"]["sums"], after["embedding"]["sums"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("method=gs-wgan", "guarantee=records"), "method=gs-wgan needs guarantee=shards, not guarantee=records"),
        (("method=dp-merf", "guarantee=shards"), "method=dp-merf needs guarantee=records, not guarantee=shards"),
    ],
)
def test_a_method_names_the_guarantee_it_needs(command, tmp_path, changes, message):
    code, printed = command("baseline", *DATA, *changes, f"run={tmp_path / 'run'}")
    assert (code, message in printed) == (2, True), printed


def test_a_release_from_before_there_were_kinds_still_loads(finished, tmp_path):
    """Its config.yaml had neither `kind` nor a generator's shape."""
    release = tmp_path / "old"
    release.mkdir()
    text = (finished / "release" / "config.yaml").read_text()
    lines, skipping = [], False
    for line in text.splitlines():
        skipping = line.startswith("generator:") or (skipping and line.startswith(" "))
        if not skipping and not line.startswith("kind:"):
            lines.append(line)
    assert len(lines) == len(text.splitlines()) - 5
    (release / "config.yaml").write_text("\n".join(lines) + "\n")
    for name in ("student.safetensors", "privacy.json"):
        (release / name).write_bytes((finished / "release" / name).read_bytes())
    old, new = (load_student(folder).sample(torch.arange(3), [1, 2, 3]) for folder in (release, finished))
    assert torch.equal(old, new)


def test_a_kind_that_nobody_knows_is_refused(finished, tmp_path):
    (tmp_path / "config.yaml").write_text("kind: generatro\nimage_shape: [1, 8, 8]\nclass_names: [a]\n")
    (tmp_path / "student.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"kind='generatro' must be one of .*did you mean 'generator'"):
        load_student(tmp_path)
