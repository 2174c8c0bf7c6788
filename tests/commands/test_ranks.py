"""Commands by two processes, on CPUs, with what torchrun puts in their environment."""

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
import time

import pytest
import torch

from dpsad.api.config import Config
from dpsad.api.launch import opened
from dpsad.cli import main
from dpsad.release.statement_file import read_statement
from dpsad.runtime.checkpoint import load
from dpsad.runtime.config_files import load_config
from dpsad.runtime.run_folder import Run

SECONDS = 100  # that a command may take, though others keep the processors busy
DIGITS = ("--config", "digits", "data.share=0.144", "privacy.num_records=200", "refine.batch_size=200", "device=cpu",
          "network.channels=8", "network.multipliers=[1]", "sampler.steps=1", "sampler.method=ddim",
          "precision=float32")  # fmt: skip


def command_of_rank(rank, words, folder, told):
    """What torchrun starts as a rank; its words to both streams go to a file."""
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.environ |= {**told, "RANK": str(rank), "LOCAL_RANK": str(rank)}
    sys.argv = ["dpsad", *map(str, words)]
    with open(folder / f"said.{rank}", "w") as said:
        sys.stdout = sys.stderr = said
        main()


def started(folder, *words, size=2):
    """Processes of so many ranks, of one command; they are left to run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        told = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    forked = multiprocessing.get_context("fork")  # all is imported
    processes = [forked.Process(target=command_of_rank, args=(rank, words, folder, told)) for rank in range(size)]
    for process in processes:
        process.start()
    return processes


def ended(processes, folder):
    """Exit code of each, and what it said."""
    for process in processes:
        process.join(SECONDS)
        process.kill()
    return [(process.exitcode, (folder / f"said.{rank}").read_text()) for rank, process in enumerate(processes)]


def test_two_processes_make_one_run(command, tmp_path, monkeypatch):
    """Of the prototypes of one process, to the bit where noise is fixed; written, charged and told by rank 0 alone."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    words = (*DIGITS, "privacy.noise_seed=3", "teacher.steps=2", "teacher.batch_size=8", "seed=1")
    two, one = Run(tmp_path / "two"), Run(tmp_path / "one")
    (code, said), (other_code, other_said) = ended(started(tmp_path, "teach", *words, f"run={two.path}"), tmp_path)
    assert (code, other_code, other_said) == (0, 0, ""), said
    assert "teach: 2 steps" in said
    assert list((tmp_path / "temporary").iterdir()) == []
    assert command("teach", *words, f"run={one.path}")[0] == 0
    ours, theirs = load(two.prototypes), load(one.prototypes)
    for key in ("images", "counts"):
        assert torch.equal(ours["prototypes"][key], theirs["prototypes"][key])
    plans = [[(plan["purpose"], plan["num_releases"]) for plan in run["ledger"]["entries"]] for run in (ours, theirs)]
    assert plans[0] == plans[1]
    assert {path.name for path in two.private.iterdir()} == {path.name for path in one.private.iterdir()}
    assert len((two.path / "metrics.jsonl").read_text().splitlines()) == 1


def test_where_one_process_ends_all_do_and_one_alone_goes_on(command, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # of which the killed one leaves a folder
    run = Run(tmp_path / "run")
    words = ("baseline", *DIGITS, "method=dpdm", "baseline.steps=12", "baseline.batch_size=200",
             "baseline.noise_multiplicity=2", f"run={run.path}")  # fmt: skip
    processes, file = started(tmp_path, *words), run.checkpoint("baseline")
    begin = time.monotonic()
    while not (file.exists() and load(file)["step"] > 0):
        assert time.monotonic() - begin < SECONDS
        assert processes[0].is_alive(), ended(processes, tmp_path)
        time.sleep(0.02)
    processes[1].kill()
    (code, said), _ = ended(processes, tmp_path)
    assert code == 2, said
    assert "error: rank 0 waited for others, one of which has ended" in said
    step = load(file)["step"]
    assert 0 < step < 12, "it is to be killed before it is done"
    code, printed = command(*words)
    assert code == 0, printed
    statement = read_statement(run.statement)
    assert statement["formal"]
    assert [(plan["purpose"], plan["num_releases"]) for plan in statement["events"]] == [("dpdm, gradient rows", 12)]
    assert len((run.path / "metrics.jsonl").read_text().splitlines()) == 12


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("method=class-means", "method=class-means with guarantee=records"),
        ("guarantee=nominal", "method=dp-sad with guarantee=nominal"),
    ],
)
def test_what_one_process_trains_is_refused_to_several_before_anything_is_made(side_by_side, tmp_path, more, says):
    def work(ranks):
        told = [f"run={tmp_path / 'run'}", *DIGITS[2:], more]
        with opened(load_config(Config, base=None, overrides=told), print, ranks=ranks):
            pytest.fail("it was opened")

    with pytest.raises(ValueError, match=f"{says} is trained by one process, and torchrun started 2; run the same"):
        side_by_side(2, work)
    assert not (tmp_path / "run").exists()


def test_processes_that_were_told_different_things_are_refused(side_by_side, tmp_path):
    def work(ranks):
        told = [f"run={tmp_path / 'run'}", *DIGITS[2:], f"seed={ranks.rank}"]
        with opened(load_config(Config, base=None, overrides=told), print, ranks=ranks):
            pytest.fail("it was opened")

    with pytest.raises(ValueError, match="the settings of rank 1 are not those of rank 0; give all processes the same"):
        side_by_side(2, work)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("rank", "prints"), [("0", True), ("1", False)])
def test_a_verb_that_trains_nothing_is_the_first_processs_own(command, monkeypatch, rank, prints):
    for key, value in (("RANK", rank), ("WORLD_SIZE", "2"), ("LOCAL_RANK", rank), ("MASTER_ADDR", "a")):
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("MASTER_PORT", "1")
    code, printed = command("presets")
    assert (code, bool(printed)) == (0, prints)
