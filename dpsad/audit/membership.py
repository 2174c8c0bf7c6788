"""Membership inference by likelihood ratios: how well shadow runs tell a run's records from others."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm, rankdata


def likelihood_ratios(scores: np.ndarray, included: np.ndarray) -> np.ndarray:
    """Log-likelihood ratio of "it was in" to "it was out", for each record in each run, by all other runs.

    Scores of a record are taken for normal among the runs that had it, and among those that had not. Deviations are
    those of all records together, which few runs can estimate.

    Args:
        scores: [runs, records].
        included: [runs, records] bool.

    Returns:
        [runs, records]; 0 where the other runs all had the record, or all had not.

    Source: Carlini et al. 2022, Algorithm 1, with the global variance of their section VI.
    """
    ratios = np.zeros(scores.shape)
    for run in range(len(scores)):
        others = np.arange(len(scores)) != run
        means, spreads = [], []
        for side in (included[others], ~included[others]):
            values = np.where(side, scores[others], np.nan)
            known = side.any(0)
            mean = np.full(scores.shape[1], np.nan)
            mean[known] = np.nanmean(values[:, known], axis=0)
            residual = (values - mean)[side]
            freedom = max(1, side.sum() - known.sum())
            spreads.append(max(float(np.sqrt(np.square(residual).sum() / freedom)), 1e-12))
            means.append(mean)
        inside, outside = (norm.logpdf(scores[run], mean, spread) for mean, spread in zip(means, spreads, strict=True))
        ratios[run] = np.nan_to_num(inside - outside, nan=0.0)
    return ratios


def true_positive_rates(ratios: np.ndarray, included: np.ndarray, at: Sequence[float]) -> dict[str, float]:
    """How many members are found at thresholds that take at most that share of the others for members.

    Args:
        ratios, included: any equal shape.
        at: false-positive rates, in (0, 1).
    """
    members, others = ratios[included], np.sort(ratios[~included])[::-1]
    found = {}
    for rate in at:
        allowed = int(rate * len(others))  # of the others may lie above the threshold
        threshold = others[allowed] if allowed < len(others) else -np.inf
        found[f"{rate:g}"] = float((members > threshold).mean())
    return found


def area_under_curve(ratios: np.ndarray, included: np.ndarray) -> float:
    """Chance that a member has a higher ratio than another; ties count half."""
    members = int(included.sum())
    others = included.size - members
    ranks = rankdata(ratios.ravel())[included.ravel()]
    return float((ranks.sum() - members * (members + 1) / 2) / (members * others))
