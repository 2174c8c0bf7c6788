"""Games of two worlds: a mechanism runs with a record or without it, again and again, and a score tells which."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from dpsad.audit.error_rates import (
    Scores,
    candidates,
    contradicts,
    epsilon_of_plans,
    epsilon_of_rates,
    error_rates,
    separation,
)
from dpsad.audit.result import Finding
from dpsad.privacy.accounting import epsilon_of
from dpsad.privacy.plan import ReleasePlan

CONFIDENCE = 0.999  # of one audit: of a thousand audits of sound mechanisms, one may cry wolf


@dataclass(frozen=True)
class Game:
    """A mechanism to audit, and who looks at it.

    what: the mechanism, in a few words.
    plans: what is claimed of it: the releases that a ledger is charged with, or a nominal event.
    play: whether the record is there, how many games -> their scores, [games]; the higher, the more it looks so. Every
        call runs the mechanism anew with fresh secret randomness. Games that run side by side in it, each with a record
        of its own, have noise and sampling of their own.
    nominal: whether the claim is no guarantee.
    """

    what: str
    plans: Sequence[ReleasePlan]
    play: Callable[[bool, int], Scores]
    nominal: bool = False


def in_parts(play: Callable[[bool, int], Scores], most: int) -> Callable[[bool, int], Scores]:
    """Plays at most so many games side by side, and as often as it takes."""

    def played(there: bool, num: int) -> Scores:
        starts = tqdm(range(0, num, most), desc=f"audit, {'with' if there else 'without'} the record", unit="part")
        return np.concatenate([play(there, min(most, num - start)) for start in starts])

    return played


def audit(game: Game, *, repetitions: int, delta: float, confidence: float = CONFIDENCE) -> Finding:
    """Plays both worlds and bounds epsilon from below.

    Args:
        repetitions: games in each world, at least 4.
        delta: of epsilon.
        confidence: of both lower bounds together, in (0, 1).

    Formal guarantee: thresholds are chosen on the first half of the games and judged on the second, by exact binomial
    bounds. One of the two lower bounds, or the alarm, is wrong with probability 1 - confidence at most.
    """
    start = time.perf_counter()
    without, with_record = game.play(False, repetitions), game.play(True, repetitions)
    return judged(game, without, with_record, delta=delta, confidence=confidence, start=start)


def judged(
    game: Game, without: Scores, with_record: Scores, *, delta: float, confidence: float, start: float
) -> Finding:
    """What scores of both worlds, [repetitions] each, say about epsilon.

    Args:
        start: when the games began, by `time.perf_counter`.

    Raises:
        ValueError: too few games, or a score is no number.
    """
    half, error = len(without) // 2, (1 - confidence) / 2  # for each of two thresholds
    if half < 2:
        raise ValueError(f"--repetitions {len(without)} is too few to choose a threshold and judge it; use 4 or more")
    if not (np.isfinite(without).all() and np.isfinite(with_record).all()):
        raise ValueError(f"{game.what}: a score is not finite, so it tells nothing; mend what is played")
    thresholds = candidates(without[:half], with_record[:half])
    tried = error_rates(without[:half], with_record[:half], thresholds, error)
    by_rates = int(np.argmax([epsilon_of_rates(rates, delta) for rates in tried]))
    by_separation = int(np.argmax([separation(rates) for rates in tried]))
    chosen = thresholds[[by_rates, by_separation]]
    plain, tight = error_rates(without[half:], with_record[half:], chosen, error)
    claimed = epsilon_of([plan.event(1) for plan in game.plans], delta)
    return Finding(
        what=game.what,
        claimed_epsilon=claimed if math.isfinite(claimed) else None,
        nominal=game.nominal,
        delta=delta,
        confidence=confidence,
        repetitions=len(without),
        epsilon=epsilon_of_rates(plain, delta),
        epsilon_of_plans=epsilon_of_plans(tight, game.plans, delta),
        refuted=contradicts(tight, game.plans) or epsilon_of_rates(plain, delta) > claimed,
        false_positive=tight.false_positive,
        false_negative=tight.false_negative,
        seconds=time.perf_counter() - start,
    )
