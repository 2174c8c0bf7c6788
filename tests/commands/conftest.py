import gc
import os
import shutil
import signal
import sys
import traceback
from pathlib import Path

import pytest
import torch

from dpsad.api.config import Config
from dpsad.cli import main
from dpsad.diffusion.denoiser import Denoiser
from dpsad.networks.config import NetworkConfig
from dpsad.networks.network import new_network
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.statement import formal_statement
from dpsad.release.export import export_release
from dpsad.release.students import Releasable, ReleaseConfig
from dpsad.runtime.run_folder import open_run
from students.few_step import SamplerConfig

TINY = (
    "network.channels=8",
    "teacher.steps=3",
    "student.steps=2",
    "refine.steps=2",
    "refine.batch_size=40",
    "sampler.steps=2",
    "data.share=0.144",
    "privacy.num_records=200",
)


@pytest.fixture
def command(monkeypatch, capsys):
    """(*words) -> (exit code, what it printed to both streams), in this process."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["dpsad", *map(str, words)])
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


@pytest.fixture
def tiny():
    """Overrides that make every stage of the digits preset take about a second."""
    return TINY


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run folder after teach and distill, on 200 digits."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    with pytest.MonkeyPatch.context() as patch:
        for verb in ("teach", "distill"):
            patch.setattr(sys, "argv", ["dpsad", verb, "--config", "digits", f"run={run}", *TINY])
            with pytest.raises(SystemExit) as stop:
                main()
            assert not stop.value.code
    return run


@pytest.fixture(scope="module")
def made_run(tmp_path_factory):
    """A run folder with a release of a small denoiser, of two classes of 8x8 images; nobody trained it."""
    run = open_run(tmp_path_factory.mktemp("made") / "run", Config(run="run"))
    shape = NetworkConfig(channels=8, multipliers=(1,))
    config = ReleaseConfig(
        image_shape=(1, 8, 8), class_names=("a", "b"), network=shape, sampler=SamplerConfig(steps=1, method="ddim")
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = Releasable(Denoiser(new_network(shape, image_channels=1, num_classes=2)), config)
        statement = formal_statement(Ledger(1.0, 1e-5), guarantee="records", size_is_public=False)
        export_release(run.release, made, {**statement, "method": "dp-sad"})
    gc.freeze()  # what was imported stays, and need not be looked through for each of hundreds of commands
    return run.path


@pytest.fixture
def folder(tmp_path, made_run, monkeypatch):
    """The working folder of a test, with a copy of `made_run` in run/."""
    shutil.copytree(made_run, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _hash(path: Path) -> int:
    with open(path, "rb") as file:  # not by pathlib, which tests take away
        return hash(file.read())


def _contents(folder: Path) -> dict[str, object]:
    """Every name below a folder, with what stands for the bytes of files, and the aims of links."""
    found: dict[str, object] = {}
    for path in set(folder.rglob("*")) - {folder / "run" / "private" / "lock"}:
        kind = path.lstat().st_mode
        aim = os.readlink(path) if path.is_symlink() else _hash(path) if path.is_file() else None
        found[str(path)] = (kind, aim)
    return found


@pytest.fixture
def run_words(monkeypatch, capsys):
    """(words) -> exit code, stdout, stderr, of a command in this process, which has ten seconds."""

    def late(*_):
        raise AssertionError("the command hangs")

    def run(words):
        monkeypatch.setattr(sys, "argv", ["dpsad", *map(str, words)])
        capsys.readouterr()
        before = signal.signal(signal.SIGALRM, late)
        signal.alarm(10)
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return run


@pytest.fixture
def refused(folder, run_words):
    """(words, *says) -> nothing; the command ends in exit code 2, says all of `says` in one line, and changes nothing.

    Usage errors, which the parser makes, have a line on usage before theirs.
    """

    def check(words, *says):
        before = _contents(folder)
        try:
            code, out, err = run_words(words)
        except Exception:  # what a user would see as a traceback
            pytest.fail(f"{words}: {traceback.format_exc(limit=-3)}")
        lines = [line for line in err.splitlines() if line and not line.startswith("sample: ")]  # a bar
        assert (code, out) == (2, ""), f"{words}: exit code {code}, {out!r}, {err!r}"
        assert lines, words
        assert lines[-1].lower().startswith("error: "), err
        assert len(lines) == 1 or lines[0].startswith("Usage: "), err
        assert 20 < len(lines[-1]) < 1500, lines[-1]
        assert lines[-1].isprintable(), repr(lines[-1])
        for text in says:
            assert text in lines[-1], f"{words}: {text!r} is not in {lines[-1]!r}"
        assert _contents(folder) == before, f"{words}: the folder was changed"

    return check
