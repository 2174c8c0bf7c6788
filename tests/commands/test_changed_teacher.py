"""A stage that was stopped goes on with the teacher and the prototypes that it was begun with, and with no others."""

import json
import os
import shutil
import signal

import pytest

from dpsad.methods.dp_sad import distillation
from dpsad.runtime.checkpoint import load, save_atomic
from dpsad.training import denoiser, dp_sgd

STAGES = {
    "teach": (denoiser, "denoising_loss"),
    "distill": (distillation, "propose"),
    "refine": (dp_sgd, "set_gradients"),
}
REFUSED = "checkpoint was begun with other settings, another seed or other images, or with another teacher"


@pytest.fixture
def stopped_in(command, monkeypatch):
    """(stage, *words) runs them, and interrupts them in the first step of that stage."""

    def run(stage, *words):
        module, name = STAGES[stage]
        made = getattr(module, name)

        def interrupting(*args, **kwargs):
            monkeypatch.setattr(module, name, made)
            os.kill(os.getpid(), signal.SIGINT)
            return made(*args, **kwargs)

        monkeypatch.setattr(module, name, interrupting)
        code, printed = command(*words)
        assert (code, f"{stage}: stopped after 1 steps" in printed) == (130, True), printed

    return run


def charges_of(teacher):
    return {entry["charge_id"] for entry in load(teacher)["sketch"]["ledger"]["entries"]}


@pytest.mark.parametrize("stage", ["distill", "refine"])
def test_a_teacher_made_anew_on_the_same_records_is_refused(stage, finished, command, stopped_in, tiny, tmp_path):
    """The student would hold both teachers' releases, and its statement would cover one."""
    run, teacher = tmp_path / "run", tmp_path / "other" / "private" / "teacher.pt"
    assert command("teach", "--config", "digits", *tiny, f"run={tmp_path / 'other'}")[0] == 0
    first = tmp_path / "first.pt"
    shutil.copy(teacher, first)
    shutil.copy(finished / "private" / "teacher.pt", teacher)
    assert not charges_of(first) & charges_of(teacher), "two series of releases"
    words = ("distill", "--config", "digits", *tiny, f"run={run}", f"teacher.path={teacher}")
    stopped_in(stage, *words)
    begun_with = charges_of(teacher)

    made_anew = {**load(teacher), "sketch": load(first)["sketch"]}
    for state in (load(first), made_anew):  # other weights, or other prototypes alone
        save_atomic(state, teacher)
        code, printed = command(*words)
        assert (code, REFUSED in printed) == (2, True), printed
        assert not (run / "release").exists()
    (run / "private" / "distill.checkpoint").unlink()
    code, printed = command(*words)
    assert code == (2 if stage == "refine" else 0), printed
    if stage == "refine":
        assert "refine.checkpoint was begun with other settings" in printed
        return
    told = json.loads((run / "release" / "privacy.json").read_text())["events"]
    assert charges_of(first) <= {event["charge_id"] for event in told}
    assert not begun_with & {event["charge_id"] for event in told}


@pytest.mark.parametrize("stage", ["distill", "refine"])
def test_the_same_teacher_is_gone_on_with(stage, finished, command, stopped_in, tiny, tmp_path):
    """Also from a copy elsewhere: what counts is what the file holds."""
    run, teacher = tmp_path / "run", tmp_path / "teacher.pt"
    shutil.copy(finished / "private" / "teacher.pt", teacher)
    words = ("distill", "--config", "digits", *tiny, f"run={run}", f"teacher.path={teacher}")
    stopped_in(stage, *words)
    save_atomic(load(teacher), teacher)
    code, printed = command(*words)
    assert code == 0, printed
    told = {event["charge_id"] for event in json.loads((run / "release" / "privacy.json").read_text())["events"]}
    assert charges_of(teacher) <= told


def test_a_teacher_half_taught_is_not_gone_on_with_by_other_prototypes(command, stopped_in, tiny, tmp_path):
    run = tmp_path / "run"
    words = ("teach", "--config", "digits", *tiny, f"run={run}")
    stopped_in("teach", *words)
    kept = (run / "private" / "sketch.pt").read_bytes()
    (run / "private" / "sketch.pt").unlink()
    code, printed = command(*words)
    assert (code, "teach." + REFUSED in printed) == (2, True), printed
    assert not (run / "private" / "teacher.pt").exists()
    (run / "private" / "sketch.pt").write_bytes(kept)
    code, printed = command(*words)
    assert code == 0, printed


def test_a_stage_that_does_not_say_what_it_learned_from_is_refused(finished, command, stopped_in, tiny, tmp_path):
    """Files of version 0.1 have no fingerprint."""
    run, teacher = tmp_path / "run", finished / "private" / "teacher.pt"
    words = ("distill", "--config", "digits", *tiny, f"run={run}", f"teacher.path={teacher}")
    stopped_in("refine", *words)
    for stage in ("distill", "refine"):
        path = run / "private" / f"{stage}.checkpoint"
        state = load(path)
        save_atomic({key: value for key, value in state.items() if key != "fingerprint"}, path)
        code, printed = command(*words)
        assert (code, f"{stage}.{REFUSED}" in printed) == (2, True), printed
        save_atomic(state, path)
    assert command(*words)[0] == 0
