"""A guide and matching within `dpsad distill`: stopped and gone on with, charged once, and handed out."""

import json
import os
import signal

import torch

from dpsad.methods.dp_sad import guide
from dpsad.release.export import load_student
from dpsad.training import dp_sgd
from students.seeds import image_seeds


def interrupted_once(function):
    """The function, but the first call stops the command as Ctrl-C does, after its step."""
    stopped = []

    def interrupted(*args):
        if not stopped:
            stopped.append(True)
            os.kill(os.getpid(), signal.SIGINT)
        return function(*args)

    return interrupted


def test_a_run_that_was_stopped_in_its_guide_and_before_it_goes_on_without_a_second_charge(
    command, tiny, tmp_path, monkeypatch
):
    run = tmp_path / "run"
    matched = ("matching.share=0.1", "shorten.steps=2", "shorten.images=20")
    words = ("--config", "digits", f"run={run}", *tiny, "guide.share=0.1", "guide.steps=3", "guide.images=20", *matched)
    rows_of, rows = guide.classifier_rows, dp_sgd.per_example_gradients
    monkeypatch.setattr(guide, "classifier_rows", lambda classifier: interrupted_once(rows_of(classifier)))
    monkeypatch.setattr(dp_sgd, "per_example_gradients", interrupted_once(rows))
    assert command("teach", *words)[0] == 0
    code, printed = command("distill", *words)
    assert (code, "refine: stopped after 1 steps" in printed) == (130, True), printed
    code, printed = command("distill", *words)
    assert (code, "guide: stopped after 1 steps" in printed) == (130, True), printed
    monkeypatch.setattr(guide, "classifier_rows", rows_of)
    code, printed = command("distill", *words)
    assert code == 0, printed

    statement = json.loads((run / "release" / "privacy.json").read_text())
    assert statement["formal"]
    assert statement["epsilon"] <= 10
    made = [event["purpose"] for event in statement["events"]]
    assert made[-3:] == ["refine, gradient rows", "guide, gradient rows", "matching, class means of features"]
    assert sum(not purpose.startswith("prototypes") for purpose in made) == 3
    student, labels, seeds = load_student(run / "release"), torch.arange(40) % 10, image_seeds(0, 40)
    taken = [
        (student.model.guide(student.sample(labels, seeds, guide=by_guide)).argmax(1) == labels).sum()
        for by_guide in (False, True)
    ]
    assert taken[0] < taken[1]
