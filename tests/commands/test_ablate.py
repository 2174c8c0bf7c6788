"""`dpsad ablate` on 200 digits: shared teachers, resumption, and what is said of cells without a guarantee."""

import csv
import functools
from dataclasses import replace

import pytest

from dpsad import cli
from dpsad.commands import ablate
from dpsad.commands import evaluate as judging
from dpsad.commands.ablations import ABLATIONS, over
from dpsad.commands.read import read_config
from dpsad.evaluation.evaluate import evaluate_samples
from dpsad.runtime.checkpoint import load

PUBLISHED = (
    "guarantee=nominal",
    "teacher.data=private",
    "student.data_weight=1",
    "student.batch_size=200",  # all records in every step, which is accounted in closed form, at once
)


@pytest.fixture(autouse=True)
def _quick_classifiers(monkeypatch):
    monkeypatch.setattr(judging, "REFERENCE_BATCHES", 10)
    monkeypatch.setattr(judging, "evaluate_samples", functools.partial(evaluate_samples, epochs=1))


@pytest.fixture
def ablated(command, tiny, tmp_path, monkeypatch):
    """(name, cells, *overrides) -> exit code, what was printed, rows of the table; in the folder tmp_path / "a"."""

    def run(name, cells, *overrides):
        monkeypatch.setitem(cli.ABLATIONS, name, replace(ABLATIONS[name], cells=cells))
        words = (name, "--config", "digits", "--num", 200, f"run={tmp_path / 'a'}", *tiny, *overrides)
        code, printed = command("ablate", *words)
        table = tmp_path / "a" / "private" / f"{name}.csv"
        return code, printed, list(csv.DictReader(table.open())) if table.exists() else []

    return run


def test_cells_share_a_teacher_and_are_not_done_again(ablated, tmp_path, monkeypatch):
    references = []

    def train_reference(*args, train=judging.train_reference, **settings):
        references.append(1)
        return train(*args, **settings)

    monkeypatch.setattr(judging, "train_reference", train_reference)
    cells = over("student.adversarial_weight", (0, 2))
    code, printed, rows = ablated("lambda", cells, *PUBLISHED)
    assert code == 0, printed
    assert len(references) == 1, "distances in one feature space"
    assert [(row["setting"], row["formal"]) for row in rows] == [("0", "False"), ("2", "False")]
    for row in rows:
        assert 0 <= float(row["accuracy"]) <= 1
        assert float(row["frechet"]) > 0
        assert float(row["epsilon"]) == pytest.approx(10, rel=0.01)
        assert float(row["seconds"]) > 0
    assert "**no**" in printed
    private = tmp_path / "a" / "private"
    assert {path.name for path in private.glob("lambda.*")} == {"lambda.csv", "lambda.md", "lambda.png"}
    assert (private / "teacher.pt").exists()
    parts = [load(tmp_path / "a" / "lambda" / cell / "private" / "distill.checkpoint")["parts"] for cell in cells]
    assert ["critic" in part for part in parts] == [False, True]
    assert not any((tmp_path / "a" / "lambda" / cell / "private" / "teacher.pt").exists() for cell in cells)

    monkeypatch.setattr(ablate, "evaluate_run", None)
    code, printed, again = ablated("lambda", cells, *PUBLISHED)
    assert code == 0, printed
    assert [row | {"seconds": ""} for row in again] == [row | {"seconds": ""} for row in rows]
    assert all(float(now["seconds"]) >= float(before["seconds"]) for now, before in zip(again, rows, strict=True))


def test_a_cell_that_changes_the_teacher_has_its_own(ablated, tmp_path):
    cells = {"3": ("teacher.steps=3",), "4": ("teacher.steps=4",)}
    code, printed, rows = ablated("lambda", cells, *PUBLISHED)
    assert code == 0, printed
    own = [(tmp_path / "a" / "lambda" / cell / "private" / "teacher.pt").exists() for cell in cells]
    assert own == [False, True], "the first is the run's own config"
    assert len(rows) == 2


def test_formal_cells_are_marked_so_and_a_student_without_labels_says_why_it_has_no_accuracy(ablated):
    names = ("told, told", "not told, told")
    cells = {name: ABLATIONS["conditioning"].cells[name] for name in names}
    code, printed, rows = ablated("conditioning", cells, "refine.steps=0")
    assert code == 0, printed
    assert [row["formal"] for row in rows] == ["True", "True"]
    assert rows[0]["epsilon"] == rows[1]["epsilon"] != ""
    assert (rows[0]["accuracy"] != "", rows[0]["note"]) == (True, "")
    assert (rows[1]["accuracy"], "without labels" in rows[1]["note"]) == ("", True)
    assert "**no**" not in printed


def test_a_cell_that_cannot_be_run_does_not_stop_the_others(ablated, monkeypatch):
    def refuse(config, say, distill=ablate.run_distill):
        if config.student.adversarial_weight == 0:
            raise ValueError("not this one")
        distill(config, say)

    monkeypatch.setattr(ablate, "run_distill", refuse)
    code, printed, rows = ablated("lambda", over("student.adversarial_weight", (0, 2)), *PUBLISHED)
    assert code == 0, printed
    assert [(row["formal"], row["note"]) for row in rows] == [("", "not this one"), ("False", "")]
    code, printed, _ = ablated("lambda", over("student.adversarial_weight", (0,)), *PUBLISHED)
    assert (code, "no cell of 'lambda' could be run; the first said: not this one" in printed) == (2, True)


@pytest.mark.parametrize(
    ("name", "cells", "message"),
    [
        ("clip", over("nominal.clip_norm", (1, 2)), "needs guarantee=nominal"),
        ("lambda", over("student.adversarial_wait", (1, 2)), "did you mean 'student.adversarial_weight'"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_trained(ablated, tmp_path, name, cells, message):
    code, printed, _ = ablated(name, cells)
    assert (code, message in printed) == (2, True)
    assert not (tmp_path / "a").exists()


def test_help_lists_the_ablations_and_an_unknown_one_names_the_nearest(command):
    code, printed = command("ablate", "--help")
    assert code == 0
    assert all(f"{name}: " in printed for name in ABLATIONS)
    code, printed = command("ablate", "lamda")
    assert (code, "did you mean 'lambda'" in printed) == (2, True)


def test_seconds_add_up_over_interruptions(tmp_path, monkeypatch):
    clock = iter([0.0, 5.0, 100.0, 107.0, 200.0])
    monkeypatch.setattr(ablate.time, "perf_counter", lambda: next(clock))
    config = replace(read_config("digits", []), run=str(tmp_path / "r"))
    monkeypatch.setattr(ablate, "run_teach", lambda config, say: None)

    def interrupted(config, say):
        raise KeyboardInterrupt

    monkeypatch.setattr(ablate, "run_distill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        ablate.trained(config, print)
    monkeypatch.setattr(ablate, "run_distill", lambda config, say: None)
    assert ablate.trained(config, print) == 12
    (tmp_path / "r" / "private" / "seconds.json").write_text("null")
    assert ablate.trained(config, print) is None, "a run that was killed left no seconds"
