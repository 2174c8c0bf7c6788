import re
from xml.etree import ElementTree

import pytest

from dpsad.report.groups import group_by_data
from dpsad.report.plots import INK, curves
from dpsad.report.reading import read_runs


def curves_of(*folders):
    (group,) = group_by_data(read_runs(folders)[0])
    return {curve.title: curve for curve in curves(group)}


def lines_of(svg):
    """(points, dashed) of every line that is drawn inside the axes in a series' colour."""
    paths = re.findall(r'<path d="([^"]*)" clip-path[^>]*style="fill: none; (stroke-dasharray[^"]*)?stroke: #', svg)
    return [(len(re.findall("[ML]", path)), bool(dashes)) for path, dashes in paths]


def test_formal_runs_are_joined_and_the_others_dashed_and_named(make_run):
    formal = [make_run(f"a{epsilon}", epsilon=epsilon, accuracy=epsilon / 20) for epsilon in (10.0, 1.0, 3.0)]
    others = [make_run(f"p{epsilon}", formal=False, epsilon=epsilon) for epsilon in (10.0, 1.0)]
    found = curves_of(*formal, *others)
    assert list(found) == ["Accuracy of cnn, higher is better", "Frechet distance in reference-cnn, lower is better"]
    for curve in found.values():
        assert sorted(lines_of(curve.svg)) == [(2, True), (3, False)]
        assert "dp-sad, nominal, NOT formal (nominal epsilon)" in curve.svg
    accuracy = found["Accuracy of cnn, higher is better"]
    assert "dp-sad, records: 0.05 at epsilon 1, 0.15 at epsilon 3, 0.5 at epsilon 10" in accuracy.alt


def test_one_line_never_joins_deltas_or_feature_spaces(make_run):
    folders = [make_run("a", epsilon=1.0), make_run("b", epsilon=2.0, statement={"delta": 1e-6})]
    assert curves_of(*folders) == {}
    for curve in curves_of(*folders, make_run("e", epsilon=3.0)).values():
        assert "delta 1e-06" in curve.alt
        assert sorted(points for points, _ in lines_of(curve.svg)) == [1, 2]
    third = make_run("c", epsilon=2.0, fingerprint="fedcba98")
    assert list(curves_of(folders[0], third)) == ["Accuracy of cnn, higher is better"], "no two distances compare"
    accuracy, frechet = curves_of(folders[0], third, make_run("d", epsilon=3.0)).values()
    assert [max(points for points, _ in lines_of(curve.svg)) for curve in (accuracy, frechet)] == [3, 2]
    assert "space fedcba98" in frechet.alt


def test_an_epsilon_that_has_no_place_on_the_axis_is_left_out(make_run):
    folders = [make_run("a", epsilon=0.0), make_run("b", epsilon=float("inf"))]
    assert curves_of(*folders) == {}
    others = [make_run("c", epsilon=2.0), make_run("d", epsilon=3.0)]
    alt = curves_of(*folders, *others).popitem()[1].alt
    assert (alt.count("at epsilon"), "at epsilon 2" in alt) == (2, True)


@pytest.mark.parametrize("epsilons", [[0.3, 10.0], [9.99, 10.0]])
def test_the_axis_has_numbers_however_near_the_runs_are(make_run, epsilons):
    svg = curves_of(*(make_run(f"a{epsilon}", epsilon=epsilon) for epsilon in epsilons)).popitem()[1].svg
    ticks = [float(number) for number in re.findall(r'id="xtick_\d+">.*?<text[^>]*>([^<]*)</text>', svg, re.DOTALL)]
    assert 1 <= len(ticks) <= 8
    assert min(epsilons) / 1.3 <= min(ticks) <= max(ticks) <= max(epsilons) * 1.3


def test_one_epsilon_is_no_curve(make_run):
    assert curves_of(make_run("a"), make_run("b", accuracy=0.5), make_run("c", formal=False, epsilon=1.0)) == {}


def test_runs_of_several_seeds_are_one_point_with_a_bar(make_run):
    folders = [make_run(f"a{seed}", accuracy=0.5 + seed / 10, config={"seed": seed}) for seed in range(3)]
    curve = curves_of(*folders, make_run("b", epsilon=1.0, accuracy=0.4))["Accuracy of cnn, higher is better"]
    assert "0.4 at epsilon 1, 0.6 at epsilon 10" in curve.alt
    bare = curves_of(folders[0], make_run("b", epsilon=1.0, accuracy=0.4))["Accuracy of cnn, higher is better"]
    assert ("LineCollection" in curve.svg, "LineCollection" in bare.svg) == (True, False)


def test_nothing_measured_draws_nothing(make_run):
    assert curves_of(make_run("a", accuracy=None)) == {}


def test_strange_names_are_text_and_the_ink_is_the_page_s(make_run):
    name = "_$\\alpha$<b>&"
    folders = [make_run(str(epsilon), epsilon=epsilon, config={"method": name}) for epsilon in (1.0, 2.0)]
    svg = curves_of(*folders).popitem()[1].svg
    texts = [element.text for element in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert f" {name}, records" in texts
    assert INK not in svg
    assert "currentColor" in svg
    assert "prefers-color-scheme:dark" in svg
