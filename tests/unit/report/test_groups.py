import pytest

from dpsad.report.groups import group_by_data
from dpsad.report.reading import read_runs


def groups_of(*folders):
    results, left_out = read_runs(folders)
    assert left_out == []
    return group_by_data(results)


@pytest.mark.parametrize(
    ("there", "here"),
    [
        ({"name": "MNIST"}, {"name": "FashionMNIST"}),
        ({"limit": 0}, {"limit": 1000}),
        ({"grey": False}, {"grey": True}),
        ({"image_size": 0}, {"image_size": 16}),
        ({"source": "folder", "path": "a/mine"}, {"source": "folder", "path": "b/mine"}),
    ],
)
def test_runs_on_other_images_are_never_in_one_table(make_run, there, here):
    groups = groups_of(make_run("a", data=there), make_run("b", data=here), make_run("c", data=there))
    assert [[result.name for result in group.results] for group in groups] == [["a", "c"], ["b"]]


def test_where_a_named_set_is_kept_does_not_matter(make_run):
    assert len(groups_of(make_run("a", data={"root": "x"}), make_run("b", data={"root": "y"}))) == 1


def test_equal_runs_have_no_differences(make_run):
    (group,) = groups_of(make_run("a"), make_run("b", epsilon=1.0), make_run("c", formal=False))
    assert group.differences == ()


@pytest.mark.parametrize(
    ("differing", "words"),
    [
        ({"statement": {"delta": 1e-6}}, "delta differs: 1e-06 (b); 1e-05 (a, c)."),
        ({"statement": {"adjacency": "replace-one"}}, "adjacency differs: replace-one (b)"),
        ({"statement": {"unit": ["shard"]}}, "unit of privacy differs: shard (b)"),
        ({"fingerprint": "fedcba9876543210"}, "feature space differs: reference-cnn fedcba98 (b)"),
        ({"class_names": ("two", "one", "zero")}, "classes differs: two, one, zero (b)"),
        ({"measured": {"hardware": "H200"}, "seconds": ()}, "hardware differs: H200 (b)"),
    ],
)
def test_what_keeps_runs_from_comparing_is_said(make_run, differing, words):
    (group,) = groups_of(make_run("a"), make_run("b", **differing), make_run("c"))
    assert len(group.differences) == 1
    assert words in group.differences[0]


def test_formal_runs_come_first_then_method_then_epsilon(make_run):
    (group,) = groups_of(
        make_run("p", formal=False, epsilon=1.0),
        make_run("ten", epsilon=10.0),
        make_run("baseline", epsilon=20.0, config={"method": "a-baseline"}),
        make_run("one", epsilon=1.0),
    )
    assert [result.name for result in group.results] == ["baseline", "one", "ten", "p"]
    assert [result.name for result in group.not_formal] == ["p"]
