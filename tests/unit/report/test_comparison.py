"""The tables, and the folder that they are written to."""

import csv
import io
import itertools
import json
import stat

import pytest

from dpsad.report.comparison import write_comparison
from dpsad.report.table import PRIVATE


@pytest.fixture
def compared(make_run, tmp_path):
    """(*folders) -> what was printed, and the folder."""

    def compare(*folders):
        return write_comparison(folders, tmp_path / "out"), tmp_path / "out"

    return compare


def rows_of(out):
    return {row["run"]: row for row in csv.DictReader(io.StringIO((out / "comparison.csv").read_text()))}


def test_a_nominal_epsilon_is_never_where_a_script_looks_for_a_formal_one(make_run, compared):
    printed, out = compared(make_run("a", epsilon=9.5), make_run("p", formal=False, epsilon=9.75))
    rows = rows_of(out)
    assert (rows["a"]["formal"], rows["a"]["epsilon"], rows["a"]["nominal_epsilon"]) == ("True", "9.5", "")
    assert (rows["p"]["formal"], rows["p"]["epsilon"], rows["p"]["nominal_epsilon"]) == ("False", "", "9.75")
    by_name = {run["run"]: run for run in json.loads((out / "comparison.json").read_text())["groups"][0]["runs"]}
    assert (by_name["p"]["epsilon"], by_name["p"]["nominal_epsilon"]) == (None, 9.75)
    for text in (printed, (out / "comparison.md").read_text()):
        assert "NOT formal" in text
        assert "nominal 9.750" in text
        assert "nominal 9.500" not in text


def test_every_number_arrives(make_run, compared):
    printed, out = compared(make_run("a", accuracy=0.8765, frechet=43.21))
    row = rows_of(out)["a"]
    assert (row["accuracy_cnn"], row["frechet"], row["feature_space"]) == ("0.8765", "43.21", "reference-cnn")
    assert (row["images_per_second"], row["delta"], row["hardware"]) == ("250.0", "1e-05", "1 CPU thread")
    assert float(row["training_minutes"]) == pytest.approx(91 / 60)
    for shown in ("0.8765", "43.21", "250", "1.5", "1e-05", "Frechet distance (reference-cnn)", "add-or-remove"):
        assert shown in printed


def test_what_else_was_measured_is_there_for_those_that_have_it(make_run, compared):
    one = {"num_images": 2000, "num_frechet_images": 1000, "frechet": 1.0, "classifiers": {}}
    metrics = {"precision": 0.625, "kernel_distance": 0.0123, "kernel_distance_deviation": 0.5}
    measured = {"student": {**one, "metrics": metrics}, "no_classifiers": "there are no labels"}
    printed, out = compared(make_run("a"), make_run("b", measured=measured))
    rows = rows_of(out)
    assert [rows[name]["precision"] for name in "ab"] == ["", "0.625"]
    assert [rows[name]["accuracy_cnn"] for name in "ab"] == ["0.9", ""]
    assert "kernel distance" in printed
    assert "deviation" not in printed
    assert "b: no classifier was trained: there are no labels" in printed


def test_hardware_is_named_for_training_and_for_sampling_where_they_differ(make_run, compared):
    other = {"hardware": "an H200"}
    _, out = compared(make_run("a"), make_run("b", measured=other), make_run("c", measured=other, seconds=()))
    assert [rows_of(out)[name]["hardware"] for name in "abc"] == [
        "1 CPU thread",
        "1 CPU thread; sampled on an H200",
        "an H200",
    ]


def test_a_run_without_evaluation_has_empty_cells_and_a_line(make_run, compared):
    folder = make_run("b", accuracy=None)
    printed, out = compared(make_run("a"), folder)
    assert (rows_of(out)["b"]["accuracy_cnn"], rows_of(out)["b"]["frechet"]) == ("", "")
    assert f"b: not evaluated: `dpsad evaluate {folder}` is missing" in printed


def test_a_number_that_is_not_finite_does_not_break_the_json(make_run, compared):
    _, out = compared(make_run("a", statement={"epsilon": float("inf")}))
    assert json.loads((out / "comparison.json").read_text())["groups"][0]["runs"][0]["epsilon"] is None


def test_markdown_keeps_strange_names_in_their_cell(make_run, compared):
    _, out = compared(make_run("a|b *c* <i>"))
    lines = (out / "comparison.md").read_text().splitlines()
    table = list(itertools.takewhile(bool, itertools.dropwhile(lambda line: not line.startswith("|"), lines)))
    assert table[2].startswith(r"| a\|b \*c\* &lt;i&gt; |")
    assert len({line.replace(r"\|", "").count("|") for line in table}) == 1


def test_tables_say_that_they_are_private_and_so_is_the_folder(make_run, compared):
    printed, out = compared(make_run("a"))
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    assert printed.endswith(PRIVATE)
    for name in ("comparison.md", "comparison.json", "report.html"):
        assert PRIVATE in (out / name).read_text()


def test_its_own_folder_among_the_runs_is_passed_over(make_run, tmp_path):
    folder, out = make_run("a"), tmp_path / "runs" / "comparison"
    first = write_comparison([folder], out)
    again = write_comparison([out, folder], out)
    assert again == first
    assert "left out" not in again


def test_other_folders_are_not_written_to(make_run, tmp_path):
    folder = make_run("a")
    for out in (folder, folder / "config.yaml"):
        with pytest.raises(ValueError, match="neither empty nor a comparison"):
            write_comparison([make_run("b")], out)
    assert not (folder / "report.html").exists()


def test_nothing_to_compare_says_why_and_writes_nothing(tmp_path):
    with pytest.raises(ValueError, match=r"no run to compare.*nowhere is no run"):
        write_comparison([tmp_path / "nowhere"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
