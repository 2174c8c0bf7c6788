"""Verdicts in words, and the tables that they rest on."""

import json

import pytest

from dpsad.audit.result import AuditResult, Finding
from dpsad.report.decision import at_a_glance, by_class, verdicts, what_differs
from dpsad.report.groups import group_by_data
from dpsad.report.reading import read_runs


def group_of(*folders):
    (group,) = group_by_data(read_runs(folders)[0])
    return group


def sketched(accuracy):
    one = {"num_images": 30, "num_frechet_images": 30, "frechet": 70.0}
    return {"sketch": {"classifiers": {"cnn": {"accuracy": accuracy}}, **one}}


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [
        (0.9601, "within 3 points of real data at epsilon 10 (96.0% against 99.0%, cnn)"),
        (0.96, "within 3 points"),
        (0.985, "within 1 point of"),
        (0.992, "no worse than real data"),
        (0.5, "49 points below real data"),
    ],
)
def test_a_verdict_says_how_far_from_real_data_at_what_epsilon(make_run, accuracy, words):
    assert verdicts(group_of(make_run("a", accuracy=accuracy)))[0].startswith(f"a: {words}")


def test_a_verdict_never_lends_a_nominal_epsilon_a_guarantee(make_run):
    (said,) = verdicts(group_of(make_run("p", formal=False, epsilon=3.0)))
    assert "at a nominal epsilon of 3, which is NO guarantee" in said
    assert "at epsilon" not in said


def test_a_verdict_says_what_is_missing(make_run):
    (said,) = verdicts(group_of(make_run("a", accuracy=None)))
    assert said == "a: not evaluated, at epsilon 10."
    (said,) = verdicts(group_of(make_run("b", measured={"real": None})))
    assert said == "b: accuracy 90.0% by cnn, at epsilon 10; real data was not measured."
    bare = {"classifiers": {}, "num_images": 9, "num_frechet_images": 9, "frechet": 45.0}
    (said,) = verdicts(group_of(make_run("c", measured={"student": bare})))
    assert said == "c: Frechet distance 45 at epsilon 10, real images have 1."


@pytest.mark.parametrize(
    ("accuracy", "words"),
    [(0.8, "10.0 points above its"), (0.95, "5.0 points below its"), (0.899, "not surely better or worse than its")],
)
def test_a_verdict_says_what_the_network_adds_to_its_prototypes(make_run, accuracy, words):
    measured = {**sketched(accuracy), "num_test_images": 2000}
    assert f"; {words} prototypes alone" in verdicts(group_of(make_run("a", measured=measured)))[0]


def test_memorisation_is_an_alarm_or_none(make_run):
    def said(closer):
        found = {"closer_to_training": closer, "false_alarm_rate": 0.001}
        return verdicts(group_of(make_run("a", measured={"memorisation": found})))[0]

    assert "ALARM: its samples are closer to training than to held-out images" in said(True)
    assert "its samples are no closer to training" in said(False)
    assert "ALARM" not in said(False)


@pytest.mark.parametrize(
    ("refuted", "words"), [(True, "an audit REFUTES its epsilon"), (False, "finds epsilon 8.5 or")]
)
def test_an_audit_has_its_say(make_run, refuted, words):
    folder = make_run("a")
    finding = Finding(
        what="r", claimed_epsilon=10.0, nominal=False, delta=1e-5, confidence=0.999, repetitions=100, epsilon=1.0,
        epsilon_of_plans=8.5, refuted=refuted, false_positive=0.1, false_negative=0.1, seconds=1.0,
    )  # fmt: skip
    (folder / "private" / "audit.json").write_text(json.dumps(AuditResult(release=finding).to_dict()))
    assert words in verdicts(group_of(folder))[0]


@pytest.mark.parametrize(
    ("rival", "beaten"),
    [
        ({"accuracy": 0.95}, True),
        ({"accuracy": 0.95, "epsilon": 1.0}, True),
        ({"accuracy": 0.95, "epsilon": 11.0}, False),
        ({"accuracy": 0.905}, False),
        ({"accuracy": 0.95, "formal": False}, False),
        ({"accuracy": 0.95, "statement": {"delta": 1e-4}}, False),
        ({"accuracy": 0.95, "statement": {"adjacency": "replace-one"}}, False),
    ],
)
def test_a_rival_counts_where_it_is_surely_better_at_no_larger_epsilon_on_equal_terms(make_run, rival, beaten):
    measured = {"num_test_images": 2000}
    one = make_run("one", measured=measured)
    other = make_run("other", measured=measured, config={"method": "dpdm"}, **rival)
    (said,) = [line for line in verdicts(group_of(one, other)) if line.startswith("one")]
    assert ("other is more accurate at no larger epsilon" in said) is beaten


def test_real_data_and_prototypes_have_rows(make_run):
    grid = at_a_glance(group_of(make_run("a", measured=sketched(0.8)), make_run("p", formal=False)))
    assert grid.heads == ("trained on", "epsilon", "accuracy, cnn", "Frechet distance")
    assert grid.rows == (
        ("real images", "", "0.990", "1"),
        ("a", "10.000", "0.900", "50"),
        ("its prototypes alone", "", "0.800", "70"),
        ("p, NOT formal", "nominal 10.000", "0.900", "50"),
    )


def test_classes_have_rows_and_of_many_the_worst_are_shown(make_run):
    def run(name, shares, **told):
        one = {"num_images": 9, "num_frechet_images": 9, "frechet": 1.0}
        student = {"classifiers": {"cnn": {"accuracy": 0.5, "per_class_accuracy": shares}}, **one}
        return make_run(name, measured={"student": student}, **told)

    grid = by_class(group_of(run("a", [0.5, None, 1.0]), make_run("b", accuracy=None)))
    assert (grid.heads, grid.rows) == (("class", "a"), (("zero", "0.50"), ("one", ""), ("two", "1.00")))
    others = run("c", [0.1, 0.2], class_names=("y", "z"))
    assert by_class(group_of(run("a", [0.5, None, 1.0]), others)).heads == ("class", "a"), "these are not its classes"
    names = tuple(f"c{number}" for number in range(30))
    grid = by_class(group_of(run("m", [number / 30 for number in reversed(range(30))], class_names=names)))
    assert "the 20 lowest of 30" in grid.title
    assert [row[0] for row in grid.rows] == list(names[10:])


def test_one_setting_differs_in_nothing(make_run):
    assert what_differs(group_of(make_run("a"))).rows == ()
