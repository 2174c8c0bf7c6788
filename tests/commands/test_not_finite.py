"""A stage whose weights become NaN ends with exit code 2, a word on what to do, and nothing lost."""

import math

import pytest

from dpsad.runtime.checkpoint import load
from dpsad.training import denoiser


@pytest.fixture
def stopped(command, tiny, tmp_path, monkeypatch):
    """(run folder, what was printed) of a teacher that broke down in its second step."""
    run, loss = tmp_path / "run", denoiser.denoising_loss
    steps = iter([1.0, math.nan, 1.0])
    with monkeypatch.context() as broken:
        broken.setattr(denoiser, "denoising_loss", lambda *told: loss(*told) * next(steps))
        code, printed = command("teach", "--config", "digits", *tiny, f"run={run}")
    assert code == 2, printed
    return run, printed


def test_the_error_names_stage_step_and_mend_and_the_stage_can_be_begun_again(stopped, command):
    run, printed = stopped
    checkpoint = run / "private" / "teach.checkpoint"
    assert "error: teach: denoiser, ema, optimizer became NaN or infinite within 3 steps" in printed
    assert f"lower teacher.learning_rate, remove {checkpoint}" in printed
    assert not (run / "private" / "teacher.pt").exists()
    assert load(checkpoint)["step"] == 0
    prototypes = (run / "private" / "sketch.pt").read_bytes()

    checkpoint.unlink()
    code, printed = command("teach", f"run={run}", "teacher.learning_rate=1e-4")
    assert code == 0, printed
    assert (run / "private" / "sketch.pt").read_bytes() == prototypes, "nothing is released twice"


def test_another_rate_needs_a_stage_that_is_begun_again(stopped, command):
    run, _ = stopped
    code, printed = command("teach", f"run={run}", "teacher.learning_rate=1e-4")
    assert (code, "teacher.learning_rate: " in printed) == (2, True)


def test_nothing_but_the_rate_of_an_unfinished_stage_may_change(stopped, finished, command):
    run, _ = stopped
    code, printed = command("teach", f"run={run}", "teacher.steps=4")
    assert (code, "teacher.steps: 3 there, 4 here" in printed) == (2, True)
    code, printed = command("teach", f"run={finished}", "teacher.learning_rate=1e-4")
    assert (code, "teacher.learning_rate" in printed) == (2, True)
