"""`dpsad ledger`: what runs have released of the same records, added up; and one process at a time in a folder."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.ledger import Ledger
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.statement import LIMITED, formal_statement

ROOT = Path(__file__).parent.parent.parent
DELTA = 1e-5


def plan(noise_multiplier, purpose="test"):
    return ReleasePlan(purpose=purpose, unit=Unit.RECORD, clip_norm=1.0, noise_multiplier=noise_multiplier)


def charged(*plans, budget=100.0, fixed_noise=False):
    ledger = Ledger(budget, DELTA)
    for each in plans:
        ledger.charge(each, fixed_noise=fixed_noise)
    return ledger


def write_run(path, ledger, *, records="abc", **changes):
    """A run folder as far as the ledger reads it."""
    (path / "private").mkdir(parents=True)
    (path / "release").mkdir()
    (path / "config.yaml").write_text("run: there\n")
    if records:
        (path / "private" / "records.fingerprint").write_text(f"{records}\n")
    statement = formal_statement(ledger, guarantee="records", size_is_public=False)
    (path / "release" / "privacy.json").write_text(json.dumps({**statement, "method": "dpdm", **changes}))
    return path


def totals(printed):
    return [float(text) for text in re.findall(r"together: epsilon (\S+) at", printed)]


def test_runs_on_the_same_records_compose_and_others_stand_apart(command, tmp_path):
    first, second = charged(plan(2.0)), charged(plan(3.0), plan(1.5))
    write_run(tmp_path / "runs" / "a", first)
    write_run(tmp_path / "runs" / "deeper" / "b", second)
    write_run(tmp_path / "runs" / "c", charged(plan(4.0)), records="other")
    code, printed = command("ledger", tmp_path / "runs")
    assert code == 0
    events = [entry.event(1) for entry in [*first.entries, *second.entries]]
    assert totals(printed) == pytest.approx(
        [epsilon_of(events, DELTA), epsilon_of([plan(4.0).event(1)], DELTA)], rel=1e-3
    )
    assert totals(printed)[0] < first.spent() + second.spent()
    assert "abc" not in printed, "the fingerprint of the records is private"
    _, together = command("ledger", tmp_path / "runs", "--same-records", "--delta", "1e-7")
    every = [*events, plan(4.0).event(1)]
    assert totals(together) == pytest.approx([epsilon_of(every, 1e-7)], rel=1e-3)


def test_a_release_that_two_runs_go_on_from_counts_once_and_one_without_a_name_each_time(command, tmp_path):
    shared = charged(plan(2.0, "prototypes"))
    runs = []
    for name in ("a", "b"):
        ledger = Ledger(100.0, DELTA)
        ledger.take_over(shared.state_dict())
        ledger.charge(plan(3.0))
        runs.append(write_run(tmp_path / name, ledger))
    code, printed = command("ledger", *runs)
    once = [plan(2.0).event(1), plan(3.0).event(1), plan(3.0).event(1)]
    assert code == 0
    assert totals(printed) == pytest.approx([epsilon_of(once, DELTA)], rel=1e-3)
    assert "1 that several runs share, counted once" in printed
    for run in runs:
        statement = json.loads((run / "release" / "privacy.json").read_text())
        statement["events"] = [replace(ReleasePlan.from_dict(e), charge_id="").to_dict() for e in statement["events"]]
        (run / "release" / "privacy.json").write_text(json.dumps(statement))
    _, printed = command("ledger", *runs)
    assert totals(printed) == pytest.approx([epsilon_of([*once, plan(2.0).event(1)], DELTA)], rel=1e-3)


def test_a_run_that_read_no_records_is_of_those_whose_releases_it_goes_on_from(command, tmp_path):
    first = charged(plan(2.0))
    later = Ledger(100.0, DELTA)
    later.take_over(first.state_dict())
    runs = [write_run(tmp_path / "a", first), write_run(tmp_path / "b", later, records="")]
    assert totals(command("ledger", *runs)[1]) == pytest.approx([first.spent()], rel=1e-3)
    assert totals(command("ledger", runs[1])[1]) == pytest.approx([first.spent()], rel=1e-3)


def test_one_run_without_a_guarantee_leaves_no_bound(command, tmp_path):
    write_run(tmp_path / "a", charged(plan(2.0)))
    write_run(tmp_path / "b", charged(plan(2.0), fixed_noise=True))
    code, printed = command("ledger", tmp_path)
    assert (code, totals(printed)) == (0, [])
    assert "together: no bound, for lack of a formal guarantee (b)" in printed


@pytest.mark.parametrize("read_off", [(), (LIMITED,)])
def test_half_made_releases_of_limited_records_have_no_bound(command, tmp_path, read_off):
    ledger = charged(plan(2.0))
    ledger.note(read_off)
    run = write_run(tmp_path / "a", ledger)
    shutil.rmtree(run / "release")
    torch.save({"ledger": ledger.state_dict()}, run / "private" / "sketch.pt")
    code, printed = command("ledger", run)
    assert code == 0
    assert totals(printed) == ([] if read_off else pytest.approx([ledger.spent()], rel=1e-3))
    assert ("no bound, for lack of a formal guarantee (a)" in printed) == bool(read_off)


def test_sampled_shards_have_no_bound_beside_several_records_of_one_person(command, tmp_path):
    """The other sets of the table stay."""
    sampled = replace(plan(2.0), unit=Unit.SHARD, sampling_prob=0.5)
    write_run(tmp_path / "a", charged(sampled))
    write_run(tmp_path / "b", charged(plan(2.0)), records_per_person=3)
    write_run(tmp_path / "c", charged(plan(4.0)), records="other")
    code, printed = command("ledger", tmp_path)
    assert code == 0
    assert "together: no bound for up to 3 records of one person" in printed
    assert totals(printed) == pytest.approx([charged(plan(4.0)).spent()], rel=1e-3)


@pytest.mark.parametrize(
    "change",
    [
        {"delta": None},
        {"delta": "x"},
        {"delta": 2.0},
        {"guarantee": 5},
        {"epsilon": "much"},
        {"records_per_person": 0},
        {"events": None},
        {"events": ["all"]},
    ],
)
def test_a_statement_with_something_else_in_a_place_is_damaged(command, tmp_path, change):
    write_run(tmp_path / "a", charged(plan(2.0)), **change)
    code, printed = command("ledger", tmp_path)
    assert code == 2
    assert "privacy.json is damaged and cannot be read" in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere",), "nowhere holds no run"),
        (("a", "--delta", "2"), "--delta=2.0 must be between 0 and 1"),
        (("broken",), "is damaged and cannot be read"),
    ],
)
def test_what_cannot_be_added_up_is_refused(command, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    write_run(Path("a"), charged(plan(2.0)))
    (write_run(Path("broken"), charged(plan(2.0))) / "release" / "privacy.json").write_text("{")
    code, printed = command("ledger", *words)
    assert code == 2
    assert message in printed


def test_a_copied_folder_that_goes_on_by_itself_adds_what_it_releases(command, finished, tmp_path):
    """Its prototypes are those of the first run; its gradient steps are not, and have other noise."""
    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    shutil.rmtree(copy / "release")
    (copy / "private" / "refine.checkpoint").unlink()
    unfinished = command("ledger", copy)[1]
    assert "no release yet" in unfinished
    assert command("distill", f"run={copy}")[0] == 0
    ledgers = [json.loads((run / "release" / "privacy.json").read_text()) for run in (finished, copy)]
    events = [ReleasePlan.from_dict(event) for statement in ledgers for event in statement["events"]]
    names = {event.charge_id: event for event in events}
    assert len(names) < len(events)
    assert "" not in names
    code, printed = command("ledger", finished, copy)
    assert code == 0
    total = epsilon_of([event.event(1) for event in names.values()], ledgers[0]["delta"])
    assert totals(printed) == pytest.approx([total], rel=1e-3)
    assert max(statement["epsilon"] for statement in ledgers) < total < sum(s["epsilon"] for s in ledgers)
    assert totals(unfinished)[0] < ledgers[0]["epsilon"]


HOLD = """
import sys
from dpsad.api.launch import opened
from dpsad.commands.read import read_config
with opened(read_config("digits", sys.argv[1:]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_in_a_folder_is_refused_and_a_dead_one_keeps_nobody_out(command, tiny, tmp_path):
    run = tmp_path / "r"
    words = (f"run={run}", *tiny)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, *words], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline().strip() == "held"
        before = (run / "config.yaml").read_bytes()
        for verb in ("sketch", "teach", "distill"):
            code, printed = command(verb, "--config", "digits", *words, "student.steps=99")
            assert code == 2
            assert re.search(rf"is being written by process {holder.pid} on \S+ since \d", printed)
        assert (run / "config.yaml").read_bytes() == before
    finally:
        holder.kill()
        holder.communicate()
    code, printed = command("sketch", "--config", "digits", *words)
    assert code == 0, printed
