from __future__ import annotations

import json
import math
import stat
import sys
import time
from dataclasses import dataclass, field, replace

import pytest

from dpsad.runtime.config_files import load_config
from dpsad.runtime.log import Log, LogConfig
from dpsad.runtime.run_folder import open_run


@dataclass(frozen=True, kw_only=True)
class Privacy:
    epsilon: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Config:
    guarantee: str = "records"
    steps: int = 10
    privacy: Privacy = field(default_factory=Privacy)


def test_a_new_folder_keeps_its_private_part_to_its_owner(tmp_path):
    run = open_run(tmp_path / "deep" / "m", Config(steps=3))
    assert run.private == run.path / "private"
    assert run.release == run.path / "release"
    assert stat.S_IMODE(run.private.stat().st_mode) == 0o700
    assert load_config(Config, base=run.path / "config.yaml", overrides=()) == Config(steps=3)


def test_a_private_part_that_was_opened_up_is_closed_again(tmp_path):
    open_run(tmp_path / "m", Config()).private.chmod(0o755)
    assert stat.S_IMODE(open_run(tmp_path / "m", Config()).private.stat().st_mode) == 0o700


def test_other_keys_may_change_and_are_written_down(tmp_path):
    run = open_run(tmp_path / "m", Config())
    longer = replace(Config(), steps=99)
    open_run(run.path, longer)
    assert load_config(Config, base=run.path / "config.yaml", overrides=()) == longer


def test_a_folder_with_other_things_is_refused(tmp_path):
    (tmp_path / "holiday.png").write_bytes(b"")
    with pytest.raises(ValueError, match="neither empty nor a run folder"):
        open_run(tmp_path, Config())
    with pytest.raises(ValueError, match="neither empty nor a run folder"):
        open_run(tmp_path / "holiday.png", Config())
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.png"]


def test_private_numbers_stay_out_of_the_public_file(tmp_path):
    run = open_run(tmp_path / "m", Config())
    log = Log(run, "distill")
    log.public(step=1, epsilon=math.inf)
    log.private(step=1, teacher_loss=0.25)
    Log(run, "distill").public(step=2, epsilon=1.5)
    public = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    private = [json.loads(line) for line in (run.private / "metrics.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["step"], line["epsilon"]) for line in public] == [
        ("distill", 1, None),
        ("distill", 2, 1.5),
    ]
    assert not any("time" in line for line in public), "how long a step took depends on who joined it"
    assert all(0 <= line["time"] < 60 for line in private)
    assert [line["teacher_loss"] for line in private] == [0.25]
    assert "teacher_loss" not in (run.path / "metrics.jsonl").read_text()


def test_a_stage_that_was_stopped_has_its_seconds_under_private(tmp_path):
    run = open_run(tmp_path / "m", Config())

    def stopped_stage():
        with Log(run, "teach").timed("2 CPU threads") as seconds:
            time.sleep(0.02)
            assert 0.02 <= seconds() < 10
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped_stage()
    (line,) = [json.loads(line) for line in (run.private / "metrics.jsonl").read_text().splitlines()]
    assert (line["stage"], line["hardware"]) == ("teach", "2 CPU threads")
    assert 0.02 <= line["seconds"] < 10
    assert not (run.path / "metrics.jsonl").exists()


def scalars(folder):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="no tensorboard here")
    accumulator = events.EventAccumulator(str(folder))
    accumulator.Reload()
    return {tag: [(e.step, e.value) for e in accumulator.Scalars(tag)] for tag in accumulator.Tags()["scalars"]}


def test_tensorboard_gets_the_same_numbers_and_keeps_private_ones_apart(tmp_path):
    pytest.importorskip("tensorboard", reason="no tensorboard here")
    run = open_run(tmp_path / "m", Config())
    log = Log(run, "refine", LogConfig(tensorboard=True))
    log.public(step=1, released_norm=0.5)
    log.public(step=2, released_norm=0.25, skipped=math.nan)
    log.private(step=2, teacher_loss=4.0, hardware="a GPU")
    assert scalars(run.path / "tensorboard" / "refine") == {"released_norm": [(1, 0.5), (2, 0.25)]}
    assert scalars(run.private / "tensorboard" / "refine") == {"teacher_loss": [(2, 4.0)]}


def test_without_tensorboard_it_says_what_to_install_and_nothing_else_needs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run = open_run(tmp_path / "m", Config())
    with pytest.raises(ValueError, match=r"pip install 'dpsad\[tensorboard\]'"):
        Log(run, "teach", LogConfig(tensorboard=True))
    Log(run, "teach", LogConfig()).public(step=1)
    assert not (run.path / "tensorboard").exists()
