"""A run killed as it saves a step: nothing that the step released was told, and the step is made anew, once."""

import json

import pytest

from dpsad.runtime import checkpoint
from dpsad.runtime.checkpoint import load

DATA = ("--config", "digits", "data.limit=200", "privacy.num_records=200", "privacy.delta=1e-3")
DENOISER = ("network.channels=8", "baseline.steps=3", "baseline.batch_size=40", "sampler.steps=2")
RUNS = {  # stage: the command, and which steps write a line
    "baseline": (("baseline", "method=dpdm", *DENOISER), (1, 2, 3)),
    "gs_wgan": (
        ("baseline", "method=gs-wgan", "guarantee=shards", "gs_wgan.num_shards=8", "gs_wgan.shards_per_step=4",
         "gs_wgan.steps=3", "gs_wgan.batch_size=6", "gs_wgan.critic_batch_size=4", "gs_wgan.critic_steps=1",
         "gs_wgan.warm_steps=1", "gs_wgan.generator.channels=4"),
        (1, 2, 3),
    ),
    "dp_merf": (
        ("baseline", "method=dp-merf", "dp_merf.num_features=40", "dp_merf.step_features=20", "dp_merf.steps=100",
         "dp_merf.batch_size=10", "dp_merf.generator.channels=2"),
        (50, 100),
    ),
    "refine": (
        ("distill", "network.channels=8", "student.steps=2", "refine.steps=3", "refine.batch_size=40",
         "sampler.steps=2", "teacher.steps=3"),
        (1, 2, 3),
    ),
}  # fmt: skip


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("stage", RUNS)
def test_no_public_line_stands_for_a_step_that_was_not_saved(stage, command, finished, tmp_path, monkeypatch):
    (words, expected), run = RUNS[stage], tmp_path / "run"
    teacher = (f"teacher.path={finished / 'private' / 'teacher.pt'}",) if stage == "refine" else ()
    words = (words[0], *DATA, f"run={run}", *words[1:], *teacher)
    file = run / "private" / f"{stage}.checkpoint"
    save, killed_at = checkpoint.save_atomic, []

    def killed_at_the_last_steps(state, path):
        if path == file and state["step"] >= 2 and not killed_at:
            killed_at.append(state["step"])
            raise Killed
        save(state, path)

    def told():
        lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        return [line["step"] for line in lines if "released_norm" in line or "squared_distance" in line]

    monkeypatch.setattr(checkpoint, "save_atomic", killed_at_the_last_steps)
    with pytest.raises(Killed):
        command(*words)
    saved = load(file)["step"]
    assert saved < killed_at[0]
    assert not (run / "metrics.jsonl").exists() or max(told(), default=0) <= saved
    code, printed = command(*words)
    assert code == 0, printed
    assert told() == list(expected)
