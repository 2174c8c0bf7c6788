import sys

import pytest

from dpsad.cli import main

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
