"""Commands by two processes of torchrun, on CPUs: started as it starts them, with what it puts in the environment."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from dpsad.release.statement_file import read_statement
from dpsad.runtime.checkpoint import load
from dpsad.runtime.run_folder import Run

ROOT = Path(__file__).parents[2]
DIGITS = ("--config", "digits", "data.limit=120", "privacy.num_records=120", "privacy.delta=1e-3", "device=cpu",
          "network.channels=8", "network.multipliers=[1]", "sampler.steps=1", "sampler.method=ddim",
          "precision=float32")  # fmt: skip


def started(*words, size=2, **env):
    """Processes of so many ranks, of one command; they are left to run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), **env}  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, "-m", "dpsad.cli", *map(str, words)],
            env={**told, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]


def ended(processes, seconds=120):
    """Exit code, stdout and stderr of each."""
    try:
        said = [process.communicate(timeout=seconds) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *words) for process, words in zip(processes, said, strict=True)]


def test_two_processes_make_one_run(command, tmp_path, monkeypatch):
    """Of the prototypes of one process, to the bit where noise is fixed; written, charged and told by rank 0 alone."""
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    words = (*DIGITS, "privacy.noise_seed=3", "teacher.steps=2", "teacher.batch_size=8", "seed=1")
    two, one = Run(tmp_path / "two"), Run(tmp_path / "one")
    (code, out, err), (other_code, *other_said) = ended(started("teach", *words, f"run={two.path}"))
    assert (code, other_code) == (0, 0), err
    assert "teach: 2 steps" in out
    assert other_said == ["", ""]
    assert list((tmp_path / "temporary").iterdir()) == []
    assert command("teach", *words, f"run={one.path}")[0] == 0
    ours, theirs = load(two.prototypes), load(one.prototypes)
    for key in ("images", "counts"):
        assert torch.equal(ours["prototypes"][key], theirs["prototypes"][key])
    plans = [[(plan["purpose"], plan["num_releases"]) for plan in run["ledger"]["entries"]] for run in (ours, theirs)]
    assert plans[0] == plans[1]
    assert {path.name for path in two.private.iterdir()} == {path.name for path in one.private.iterdir()}
    assert len((two.path / "metrics.jsonl").read_text().splitlines()) == 1


def test_where_one_process_ends_all_do_and_one_alone_goes_on(command, tmp_path):
    run = Run(tmp_path / "run")
    words = ("baseline", *DIGITS, "method=dpdm", "baseline.steps=12", "baseline.batch_size=60",
             "baseline.noise_multiplicity=2", f"run={run.path}")  # fmt: skip
    processes, file = started(*words), run.checkpoint("baseline")
    begin = time.monotonic()
    while not (file.exists() and load(file)["step"] > 0):
        assert time.monotonic() - begin < 100, ended(processes, 1)
        assert processes[0].poll() is None, ended(processes)
        time.sleep(0.02)
    processes[1].kill()
    (code, _, err), _ = ended(processes, 30)
    assert code == 2
    assert "error: rank 0 waited for others, one of which has ended" in err
    step = load(file)["step"]
    assert 0 < step < 12, "it is to be killed before it is done"
    code, printed = command(*words)
    assert code == 0, printed
    statement = read_statement(run.statement)
    assert statement["formal"]
    assert [(plan["purpose"], plan["num_releases"]) for plan in statement["events"]] == [("dpdm, gradient rows", 12)]
    assert len((run.path / "metrics.jsonl").read_text().splitlines()) == 12


def test_what_is_not_shared_out_is_refused_or_done_by_the_first_alone(tmp_path):
    words = ("baseline", *DIGITS, "method=class-means", f"run={tmp_path / 'run'}")
    (code, out, err), (other_code, other_out, other_err) = ended(started(*words))
    assert (code, other_code, out, other_out) == (2, 2, "", "")
    says = "method=class-means with guarantee=records is trained by one process, and torchrun started 2; run the same"
    assert err.startswith(f"error: {says}")
    assert other_err.startswith(f"error: rank 1: {says}")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("rank", "prints"), [("0", True), ("1", False)])
def test_a_verb_that_trains_nothing_is_the_first_processs_own(command, monkeypatch, rank, prints):
    for key, value in (("RANK", rank), ("WORLD_SIZE", "2"), ("LOCAL_RANK", rank), ("MASTER_ADDR", "a")):
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("MASTER_PORT", "1")
    code, printed = command("presets")
    assert (code, bool(printed)) == (0, prints)
