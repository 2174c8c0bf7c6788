from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
import torch
from torch import nn

from dpsad.errors import CheckpointError
from dpsad.networks.config import NetworkConfig
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.sanitizer import Sanitizer
from dpsad.runtime import checkpoint as checkpoint_module
from dpsad.runtime.checkpoint import Checkpoint, load, save_atomic
from dpsad.runtime.log import Log
from dpsad.runtime.run_folder import open_run


class Training:
    """A stage in small: a model, Adam and a generator, all of which a step changes."""

    def __init__(self, path, *, every_seconds=60.0, width=3):
        self.generator = torch.Generator().manual_seed(1)
        self.model = nn.Linear(width, 2)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.fill_(0.5)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.1)
        self.checkpoint = Checkpoint(path, every_seconds=every_seconds)
        self.checkpoint.track(model=self.model, optimizer=self.optimizer, generator=self.generator)

    def make_step(self):
        x = torch.randn(4, self.model.in_features, generator=self.generator)
        self.optimizer.zero_grad()
        self.model(x).square().mean().backward()
        self.optimizer.step()

    def run(self, total, *, at=None, then=lambda: None):
        for step in self.checkpoint.remaining(total):
            if step == at:
                then()
            self.make_step()
        return self

    def weights(self):
        return torch.cat([p.detach().flatten() for p in self.model.parameters()])


def interrupt(number=signal.SIGINT):
    os.kill(os.getpid(), number)


def test_a_resumed_run_ends_bit_for_bit_where_one_run_does(tmp_path):
    whole = Training(tmp_path / "whole.pt").run(7)
    Training(tmp_path / "parts.pt").run(3)
    resumed = Training(tmp_path / "parts.pt")
    assert resumed.checkpoint.step == 3
    assert list(resumed.checkpoint.remaining(3)) == []
    resumed.run(7)
    assert torch.equal(resumed.weights(), whole.weights())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_finishes_the_step_saves_and_gives_the_handlers_back(tmp_path, number):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stopped = Training(tmp_path / "a.pt")
    with pytest.raises(KeyboardInterrupt):
        stopped.run(7, at=2, then=lambda: interrupt(number))
    assert load(tmp_path / "a.pt")["step"] == stopped.checkpoint.step == 3
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    resumed = Training(tmp_path / "a.pt").run(7)
    assert torch.equal(resumed.weights(), Training(tmp_path / "whole.pt").run(7).weights())


def test_an_interrupt_in_the_last_step_is_not_lost(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path / "a.pt").run(3, at=2, then=interrupt)
    assert load(tmp_path / "a.pt")["step"] == 3


def test_a_second_interrupt_breaks_at_once(tmp_path):
    after = []
    with pytest.raises(KeyboardInterrupt):
        Training(tmp_path / "a.pt").run(7, at=2, then=lambda: (interrupt(), interrupt(), after.append(1)))
    assert after == []
    assert load(tmp_path / "a.pt")["step"] == 0


def test_a_step_that_raises_is_not_saved_and_gives_the_handlers_back(tmp_path):
    def fail():
        raise ZeroDivisionError

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError):
        Training(tmp_path / "a.pt", every_seconds=0).run(7, at=2, then=fail)
    assert signal.getsignal(signal.SIGINT) is before
    assert load(tmp_path / "a.pt")["step"] == 2


def test_an_ignored_signal_stays_ignored(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert Training(tmp_path / "a.pt").run(3, at=1, then=interrupt).checkpoint.step == 3
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_runs_without_touching_signals(tmp_path):
    training = Training(tmp_path / "a.pt")
    thread = threading.Thread(target=training.run, args=(3,))
    thread.start()
    thread.join()
    assert load(tmp_path / "a.pt")["step"] == 3


def test_the_parts_are_on_disk_before_the_first_step(tmp_path):
    """A budget charged before the loop must survive a crash in the first step."""

    class Charges:
        spent = 0.0

        def state_dict(self):
            return {"spent": self.spent}

        def load_state_dict(self, state):
            self.spent = state["spent"]

    charges, checkpoint = Charges(), Checkpoint(tmp_path / "a.pt")
    checkpoint.track(charges=charges)
    charges.spent = 2.5
    assert next(checkpoint.remaining(3)) == 0
    restored = Charges()
    Checkpoint(tmp_path / "a.pt").track(charges=restored)
    assert restored.spent == 2.5


@pytest.fixture
def told(tmp_path):
    """() -> a new log of a run's, and a function that gives the steps in its public lines."""
    run = open_run(tmp_path / "run", NetworkConfig())

    def steps():
        file = run.path / "metrics.jsonl"
        return [json.loads(line)["step"] for line in file.read_text().splitlines()] if file.exists() else []

    return lambda: Log(run, "test"), steps


def test_what_a_step_tells_is_told_once_it_is_on_disk(tmp_path, monkeypatch, told):
    """Not before, not twice, and not at all where the step was never saved."""
    (new_log, steps_told), path = told, tmp_path / "a.pt"
    training, log = Training(path, every_seconds=0), new_log()
    training.checkpoint.hold(log)
    steps = training.checkpoint.remaining(3)
    for step in (0, 1):
        assert next(steps) == step
        log.public(step=step)
        assert steps_told() == list(range(step))
    monkeypatch.setattr(checkpoint_module, "save_atomic", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(steps)
    monkeypatch.undo()
    assert steps_told() == [0]
    assert Training(path).checkpoint.step == 1


@pytest.mark.parametrize("written", ["", '{"stage": "te', '{"stage": "test", "step": 0}\n', None])
def test_what_a_crash_kept_from_being_told_of_a_saved_step_is_told_when_it_goes_on(tmp_path, told, written):
    """Killed after the save, before, within and after the two lines of its step."""
    (new_log, steps_told), path = told, tmp_path / "a.pt"
    training, log = Training(path, every_seconds=0), new_log()
    training.checkpoint.hold(log)
    for step in training.checkpoint.remaining(1):
        log.public(step=step)
        log.public(step=step + 10)
    file = tmp_path / "run" / "metrics.jsonl"
    file.write_text(file.read_text() if written is None else written)
    resumed, log = Training(path), new_log()
    resumed.checkpoint.hold(log)
    assert steps_told() == [0, 10]
    for step in resumed.checkpoint.remaining(2):
        log.public(step=step)
    assert steps_told() == [0, 10, 1]


def test_a_line_that_the_disk_has_no_room_for_leaves_none_of_itself(tmp_path, told):
    resource = pytest.importorskip("resource")
    (new_log, steps_told), log = told, told[0]()
    log.public(step=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "run" / "metrics.jsonl").stat().st_size + 5, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            log.public(step=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert steps_told() == [1]
    new_log().public(step=3)
    assert steps_told() == [1, 3]


def test_saves_are_as_far_apart_as_asked(tmp_path):
    saved = []
    for every_seconds in (0.0, 60.0):
        training = Training(tmp_path / f"{every_seconds}.pt", every_seconds=every_seconds)
        for _ in training.checkpoint.remaining(3):
            saved.append(load(training.checkpoint.path)["step"])
    assert saved == [0, 1, 2, 0, 0, 0]


def test_a_full_disk_leaves_the_last_checkpoint_and_says_so(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "a.pt"
    before = signal.getsignal(signal.SIGINT)
    Training(path).run(3)
    with pytest.raises(CheckpointError, match=r"a\.pt.*No space left.*free some space.*of step 3 is intact"):
        Training(path, every_seconds=0).run(7, at=3, then=lambda: monkeypatch.setattr(torch, "save", full))
    assert signal.getsignal(signal.SIGINT) is before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pt"]
    monkeypatch.undo()
    assert torch.equal(Training(path).run(7).weights(), Training(tmp_path / "whole.pt").run(7).weights())


def test_a_write_that_the_system_cuts_short_leaves_the_old_file(tmp_path):
    """The real thing: the kernel refuses to let the file grow, in the midst of torch's zip writer."""
    resource = pytest.importorskip("resource")
    path = tmp_path / "a.pt"
    save_atomic({"step": 1, "parts": {}}, path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(CheckpointError, match=r"a\.pt could not be written: File too large; free some space"):
            save_atomic({"step": 2, "parts": {"big": torch.zeros(100_000)}}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load(path)["step"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pt"]


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04" + b"0" * 100])
def test_a_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "a.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pt is damaged"):
        Checkpoint(path)


def test_a_truncated_file_and_a_foreign_one_are_named(tmp_path):
    path = tmp_path / "a.pt"
    Training(path).run(2)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ValueError, match=r"a\.pt is damaged"):
        Checkpoint(path)
    save_atomic({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"a\.pt is no checkpoint of a stage"):
        Checkpoint(path)


def test_parts_that_do_not_fit_are_named(tmp_path):
    path = tmp_path / "a.pt"
    Training(path).run(2)
    with pytest.raises(ValueError, match=r"'model' does not fit what .*a\.pt holds \(.*size mismatch.*another run="):
        Training(path, width=4)
    with pytest.raises(ValueError, match=r"'critic' does not fit"):
        Checkpoint(path).track(critic=nn.Linear(3, 2))
    partial = Checkpoint(path)
    partial.track(model=nn.Linear(3, 2))
    with pytest.raises(ValueError, match=r"holds 'optimizer', 'generator', which this stage does not have"):
        next(partial.remaining(7))
    assert Training(path).checkpoint.step == 2


KILLED = """
import os, signal
from pathlib import Path
from dpsad.errors import CheckpointError
from dpsad.runtime.checkpoint import save_atomic

os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
save_atomic({"step": 2, "parts": {}}, Path("a.pt"))
"""


def test_a_process_killed_while_saving_leaves_the_old_file(tmp_path):
    save_atomic({"step": 1, "parts": {}}, tmp_path / "a.pt")
    killed = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert load(tmp_path / "a.pt")["step"] == 1


def test_a_checkpoint_of_other_settings_is_refused(tmp_path, context):
    """By the settings that a stage goes by, its seed and its data; one of an earlier version has no fingerprint."""
    path = tmp_path / "a.checkpoint"
    list(Checkpoint(path, fingerprint="one").remaining(2))
    assert Checkpoint(path, fingerprint="one").step == 2
    assert Checkpoint(path).step == 2
    with pytest.raises(ValueError, match="was begun with other settings, another seed or other images"):
        Checkpoint(path, fingerprint="other")
    save_atomic({"step": 1, "parts": {}}, path)
    assert Checkpoint(path, fingerprint="one").step == 1
    with pytest.raises(ValueError, match="begun with other settings"):
        Checkpoint(path, fingerprint="one", unnamed=False)


def test_a_context_names_its_checkpoints_by_all_that_decides_them(context):

    list(context.checkpoint("stage", NetworkConfig(), "data").remaining(1))
    assert context.checkpoint("stage", NetworkConfig(), "data").step == 1
    for other in (
        (context, NetworkConfig(channels=8), "data"),
        (context, NetworkConfig(), "other data"),
        (replace(context, seed=1), NetworkConfig(), "data"),
    ):
        with pytest.raises(ValueError, match="was begun with other settings"):
            other[0].checkpoint("stage", *other[1:])


class Spending:
    """A stage in small that releases: its weight takes what was released, and breaks at everything below a bound."""

    def __init__(self, path, *, track_sanitizer=True, start=0.0):
        ledger = Ledger(5.0, 1e-5)
        plan = ReleasePlan(purpose="t", unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=3.0, num_releases=3)
        self.sanitizer = Sanitizer(plan, ledger, PrivateRandomness())
        self.model = nn.Linear(1, 1, bias=False)
        nn.init.constant_(self.model.weight, start)
        self.checkpoint = Checkpoint(path, every_seconds=0)
        self.checkpoint.track(model=self.model, **({"sanitizer": self.sanitizer} if track_sanitizer else {}))
        self.checkpoint.guard("t.learning_rate", model=self.model)
        self.sanitizer.charge()

    def run(self, breaks_at=None):
        for step in self.checkpoint.remaining(3):
            released = self.sanitizer.release([torch.ones(5, 1)], (1,))
            self.model.weight.data += released * (math.inf if step == breaks_at else 1.0)


def test_a_stage_that_spends_and_breaks_stops_for_good(tmp_path):
    """Else the same command draws other noise, until the model survives it, under one charge."""
    path = tmp_path / "a.checkpoint"
    with pytest.raises(ValueError, match=r"pass another run=.*lower t\.learning_rate") as broken:
        Spending(path).run(breaks_at=1)
    saved = load(path)
    assert (saved["step"], saved["parts"]["sanitizer"]["num_made"]) == (1, 1)
    assert len(saved["parts"]["sanitizer"]["ledger"]["entries"]) == 1
    assert saved["parts"]["model"]["weight"].isfinite().all()
    assert saved["parts"]["sanitizer"]["randomness"] is None, "nothing more will be drawn"
    before = path.read_bytes()
    for _ in range(2):
        with pytest.raises(ValueError, match="became NaN or infinite within 2 steps") as again:
            Spending(path)
        assert str(again.value) == str(broken.value)
    assert path.read_bytes() == before


def test_a_stage_that_breaks_before_its_first_save_keeps_what_it_spent(tmp_path):
    path = tmp_path / "a.checkpoint"
    with pytest.raises(ValueError, match="nothing was saved, and what was spent"):
        Spending(path, start=math.nan).run()
    assert len(load(path)["parts"]["sanitizer"]["ledger"]["entries"]) == 1
    with pytest.raises(ValueError, match="became NaN or infinite within 0 steps"):
        Spending(path)


def test_a_stage_that_spends_nothing_may_be_gone_on_with(tmp_path):
    path = tmp_path / "a.checkpoint"
    with pytest.raises(ValueError, match=r"lower t\.learning_rate, remove"):
        Spending(path, track_sanitizer=False).run(breaks_at=1)
    assert Spending(path, track_sanitizer=False).checkpoint.step == 1


def test_a_checkpoint_of_a_gpu_goes_on_without_one(tmp_path, monkeypatch):
    """As CUDA writes it: tensors that name a device which is not here, and a generator's state of another length."""
    begun = Training(tmp_path / "c").run(3)
    state = load(tmp_path / "c")
    state["parts"]["generator"] = torch.arange(16, dtype=torch.uint8)
    monkeypatch.setattr("torch.serialization.location_tag", lambda storage: "cuda:7")
    save_atomic(state, tmp_path / "c")
    with pytest.raises(RuntimeError, match="CUDA"):
        torch.load(tmp_path / "c", weights_only=True)
    resumed = Training(tmp_path / "c")
    assert resumed.checkpoint.step == 3
    assert torch.equal(resumed.weights(), begun.weights())
    assert resumed.run(5).weights().isfinite().all()
