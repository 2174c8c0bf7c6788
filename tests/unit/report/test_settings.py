"""Runs that differ in their seed alone, taken together."""

import json

import pytest
from scipy.stats import binomtest

from dpsad.report.groups import group_by_data
from dpsad.report.reading import read_runs
from dpsad.report.settings import keys_that_differ, settings_of, wilson_interval


def settings_from(*folders):
    return settings_of(read_runs(folders)[0])


def names_of(settings):
    return [[result.name for result in setting.results] for setting in settings]


def seeds(make_run, *accuracies, **told):
    return [
        make_run(f"mine-seed{seed}", accuracy=accuracy, config={"seed": seed, "run": f"runs/{seed}"}, **told)
        for seed, accuracy in enumerate(accuracies)
    ]


def test_runs_of_several_seeds_are_one_setting_with_mean_and_deviation(make_run):
    (setting,) = settings_from(*seeds(make_run, 0.5, 0.6, 0.7))
    assert setting.name == "mine-seed* (3 runs)"
    figure = setting.accuracy("cnn")
    assert (figure.mean, figure.deviation) == (pytest.approx(0.6), pytest.approx(0.1))
    assert figure.text(".2f") == "0.60 ± 0.10"
    assert setting.accuracy("cnn", "real").text(".2f") == "0.99", "real images that are measured thrice count once"
    assert setting.accuracy("mlp") is None
    assert setting.accuracy("cnn", "sketch") is None


@pytest.mark.parametrize(
    "differing",
    [
        {"config": {"seed": 1, "teacher": {"path": None, "steps": 7}}},
        {"config": {"seed": 1}, "statement": {"delta": 1e-6}},
        {"config": {"seed": 1}, "epsilon": 9.0},
        {"config": {"seed": 1}, "formal": False},
        {"config": {"seed": 1}, "measured": {"protocol": "dpdm"}},
        {"config": {"seed": 1}, "measured": {"num_test_images": 7}},
        {"config": {"seed": 1}, "accuracy": None},
    ],
)
def test_what_differs_in_more_than_the_seed_is_another_setting(make_run, differing):
    first = make_run("a", config={"seed": 0})
    assert len(settings_from(first, make_run("b", **differing))) == 2
    assert len(settings_from(first, make_run("c", config={"seed": 1}))) == 1


def test_distances_in_several_spaces_have_no_mean(make_run):
    folders = [*seeds(make_run, 0.5), make_run("other", config={"seed": 1}, fingerprint="fedcba98")]
    (setting,) = settings_from(*folders)
    assert setting.frechet() is None
    assert setting.accuracy("cnn").mean == pytest.approx(0.7)


@pytest.mark.parametrize(("right", "num"), [(0, 5), (5, 5), (90, 100), (9000, 10_000)])
def test_an_interval_is_wilson_s(right, num):
    exact = binomtest(right, num).proportion_ci(0.95, method="wilson")
    assert wilson_interval(right / num, num) == pytest.approx((exact.low, exact.high), abs=1e-4)


def test_one_run_has_the_interval_of_its_test_set(make_run):
    (setting,) = settings_from(make_run("a", accuracy=0.9, measured={"num_test_images": 100}))
    assert setting.accuracy("cnn").text(".3f") == "0.900 (0.826 to 0.945)"
    assert setting.accuracy("cnn").error == pytest.approx(0.0304, abs=1e-3)


def test_keys_that_differ_stand_side_by_side_and_no_others(make_run):
    folders = [
        *seeds(make_run, 0.5, 0.6, data={"root": "x"}),
        make_run("z", data={"root": "y"}, config={"seed": 0, "teacher": {"path": None, "steps": 7}, "new": 1}),
        make_run("w", config={"seed": 2, "teacher": {"path": None, "steps": 8}, "log": {"tensorboard": True}}),
    ]
    (group,) = group_by_data(read_runs(folders)[0])
    assert names_of(group.settings) == [["mine-seed0", "mine-seed1"], ["z"], ["w"]]
    assert keys_that_differ(group.settings) == {"seed": ["0, 1", "0", "2"], "teacher.steps": ["", "7", "8"]}


def test_an_evaluation_with_a_class_that_is_no_number_is_damaged(make_run):
    folder = make_run("a")
    path = folder / "private" / "evaluation.json"
    measured = json.loads(path.read_text())
    measured["student"]["classifiers"]["cnn"]["per_class_accuracy"] = ["high"]
    path.write_text(json.dumps(measured))
    results, left_out = read_runs([folder])
    assert (results, len(left_out)) == ([], 1)
