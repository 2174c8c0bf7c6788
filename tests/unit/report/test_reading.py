import json

import pytest

from dpsad.report.reading import read_run, read_runs


def test_a_stage_that_was_stopped_counts_whole_and_a_cut_line_is_passed_over(make_run):
    folder = make_run("a", seconds=[("sketch", 6.0), ("teach", 60.0), ("teach", 30.0), ("distill", 24.0)])
    with open(folder / "private" / "metrics.jsonl", "a") as file:
        file.write('{"stage": "distill", "sec')
    result = read_run(folder, "a")
    assert result.stage_seconds == {"sketch": 6.0, "teach": 90.0, "distill": 24.0}
    assert result.training_minutes == pytest.approx(2.0)
    assert result.hardware == "1 CPU thread"


def test_minutes_of_the_sketch_alone_are_no_training_minutes(make_run):
    assert read_run(make_run("a", seconds=[("sketch", 6.0)]), "a").training_minutes is None


@pytest.mark.parametrize("claimed", ["true", 1, None])
def test_only_a_statement_that_says_so_is_formal(make_run, claimed):
    result = read_run(make_run("a", statement={"formal": claimed, "epsilon": 3.0}), "a")
    assert (result.formal, result.epsilon, result.nominal_epsilon) == (False, None, 3.0)


def test_the_number_of_a_run_that_is_not_formal_is_nominal(make_run):
    result = read_run(make_run("a", formal=False, epsilon=7.0), "a")
    assert (result.epsilon, result.nominal_epsilon) == (None, 7.0)
    fixed_noise = make_run("b", statement={"formal": False, "epsilon": 5.0})
    assert (read_run(fixed_noise, "b").epsilon, read_run(fixed_noise, "b").nominal_epsilon) == (None, 5.0)


def test_a_run_without_an_evaluation_says_which_command_is_missing(make_run):
    folder = make_run("a", accuracy=None)
    result = read_run(folder, "a")
    assert result.evaluation is None
    assert result.notes == (f"not evaluated: `dpsad evaluate {folder}` is missing",)


def test_an_evaluation_of_an_earlier_release_is_noted(make_run):
    folder = make_run("a", measured={"privacy": {"epsilon": 1.0}})
    assert "evaluated before its release was made anew" in read_run(folder, "a").notes[0]


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("config.yaml", "{"),
        ("config.yaml", "data: ${"),
        ("config.yaml", ""),
        ("config.yaml", "- a list"),
        ("config.yaml", "\x00"),
        ("release/privacy.json", "{"),
        ("release/privacy.json", "[]"),
        ("release/privacy.json", "{}"),
        ("release/privacy.json", '{"guarantee": "records", "formal": true, "epsilon": null}'),
        ("release/config.yaml", "image_shape: [1, 8]\nclass_names: [a]"),
        ("release/config.yaml", "image_shape: 8"),
        ("private/evaluation.json", '{"student": {}}'),
        ("private/evaluation.json", "null"),
        ("private/metrics.jsonl", '{"stage": "teach", "seconds": "long"}'),
        ("private/metrics.jsonl", '{"stage": "teach", "seconds": NaN}'),
    ],
)
def test_a_damaged_run_is_named_and_holds_up_no_other(make_run, path, content):
    good, bad = make_run("good"), make_run("bad")
    (bad / path).write_text(content)
    results, left_out = read_runs([bad, good])
    assert [result.name for result in results] == ["good"]
    assert len(left_out) == 1
    assert str(bad) in left_out[0]


def test_what_is_no_finished_run_says_what_to_do(make_run, tmp_path):
    taught = make_run("taught")
    (taught / "release" / "privacy.json").unlink()
    (tmp_path / "notes.txt").write_text("hello")
    _, left_out = read_runs([taught, tmp_path / "notes.txt", tmp_path / "nowhere"])
    assert [f"`dpsad distill run={taught}`" in left_out[0], "notes.txt is no run" in left_out[1]] == [True, True]
    assert "nowhere is no run" in left_out[2]


def test_runs_of_one_name_stay_apart_and_one_given_twice_is_one(make_run):
    folders = [make_run("mnist/a"), make_run("fashion/a")]
    results, _ = read_runs([*folders, folders[0] / ".." / "a"])
    assert [result.name for result in results] == ["mnist/a", "fashion/a"]


def test_method_and_guarantee_name_a_run(make_run):
    assert read_run(make_run("a"), "a").title == "dp-sad, records"
    assert read_run(make_run("b", config={"method": "dpdm"}), "b").title == "dpdm, records"


def test_an_older_evaluation_without_speed_leaves_it_empty(make_run):
    folder = make_run("a")
    path = folder / "private" / "evaluation.json"
    measured = json.loads(path.read_text())
    del measured["sampling_images_per_second"], measured["hardware"]
    path.write_text(json.dumps(measured))
    assert read_run(folder, "a").images_per_second is None
