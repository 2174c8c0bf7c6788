"""Likelihood ratios of shadow runs: scores with a known shift, and rates by a slow way."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dpsad.audit.membership import area_under_curve, likelihood_ratios, true_positive_rates


def shadows(shift, runs=16, records=500, seed=0):
    """Scores whose difficulty differs from record to record far more than membership moves them."""
    draws = np.random.default_rng(seed)
    included = draws.random((runs, records)) < 0.5
    scores = 10 * draws.normal(size=records) + draws.normal(size=(runs, records)) + shift * included
    return scores, included


def test_members_are_found_where_a_threshold_on_scores_finds_none():
    scores, included = shadows(4.0)
    ratios = likelihood_ratios(scores, included)
    assert area_under_curve(ratios, included) > 0.98
    assert area_under_curve(scores, included) < 0.65
    assert true_positive_rates(ratios, included, [0.01])["0.01"] > 0.7


def test_scores_that_say_nothing_find_nobody():
    """8,000 guesses, about half of them members: the area's deviation is 0.0065, so 0.03 is beyond 4.5 of them."""
    ratios = likelihood_ratios(*(both := shadows(0.0)))
    assert area_under_curve(ratios, both[1]) == pytest.approx(0.5, abs=0.03)


def test_a_run_is_judged_by_the_others_alone():
    scores, included = shadows(1.0, runs=5, records=20)
    before = likelihood_ratios(scores, included)[0]
    assert np.allclose(before, likelihood_ratios(scores, np.vstack([~included[:1], included[1:]]))[0])


def test_rates_are_those_of_a_slow_count():
    scores, included = shadows(1.0, runs=3, records=200)
    found = true_positive_rates(scores, included, [0.01, 0.1])
    for rate in (0.01, 0.1):
        allowed = [
            (scores[included] > threshold).mean()
            for threshold in scores[~included]
            if (scores[~included] > threshold).mean() <= rate
        ]
        assert found[f"{rate:g}"] == pytest.approx(max(allowed))


def test_the_area_is_scikit_learns():
    scores, included = shadows(1.0, runs=3, records=50)
    scores = scores.round()  # with ties
    assert area_under_curve(scores, included) == pytest.approx(roc_auc_score(included.ravel(), scores.ravel()))
