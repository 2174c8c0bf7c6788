"""Selection: the best of a random number of repetitions is released, and what that costs."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Annotated

import dp_accounting
from dp_accounting.dp_event import RepeatAndSelectDpEvent

from dpsad.privacy.randomness import PrivateRandomness
from dpsad.privacy.ranges import Range, require_ranges
from dpsad.privacy.renyi import logarithmic_halting

# distributions of the number of repetitions, and the shapes that the accountant knows them by
SHAPES = {"logarithmic": 0.0, "geometric": 1.0, "poisson": math.inf}
_RARE = 2.0**-60


@dataclass(frozen=True, kw_only=True)
class Selection:
    """How many times a mechanism is repeated, of which the best output alone is released.

    Attributes:
        repetitions: how their number is distributed: logarithmic or geometric, both at least 1, or poisson, which may
            be 0, and then nothing is released.
        mean: of their number.

    Formal guarantee: with a number drawn by `draw`, independently of records and before any repetition, and kept
    secret, what is released satisfies `event(events)`, if each repetition draws afresh and satisfies `events` together,
    its score included. Which is best may depend on records through the released score alone.

    Source: Papernot and Steinke 2022, "Hyperparameter Tuning with Renyi Differential Privacy", Theorems 2 and 6.
    """

    repetitions: str = "geometric"
    mean: Annotated[float, Range("(1, 500]")] = 4.0

    def __post_init__(self) -> None:
        if self.repetitions not in SHAPES:
            raise ValueError(f"repetitions={self.repetitions!r} must be one of {', '.join(SHAPES)}")
        require_ranges(self)

    def event(self, events: Sequence[dp_accounting.DpEvent]) -> dp_accounting.DpEvent:
        """The selection as the accountant knows it; `events` are of one repetition."""
        return RepeatAndSelectDpEvent(dp_accounting.ComposedDpEvent(list(events)), self.mean, SHAPES[self.repetitions])

    def draw(self, randomness: PrivateRandomness) -> int:
        """How often to repeat, by the inverse of the distribution function.

        Formal guarantee: the distribution is the stated one, up to a probability below 2^-40.
        """
        uniform, below = randomness.uniform(1).item(), 0.0
        for number, prob in enumerate(self.probabilities()):
            below += prob
            if uniform < below or (prob < _RARE and number > self.mean):
                return number
        raise AssertionError("probabilities have no end")

    def probabilities(self) -> Iterator[float]:
        """How likely 0, 1, 2, ... repetitions are."""
        if self.repetitions == "poisson":
            yield from (
                math.exp(number * math.log(self.mean) - self.mean - math.lgamma(number + 1)) for number in count()
            )
        yield 0.0
        if self.repetitions == "geometric":
            yield from ((1 - 1 / self.mean) ** (number - 1) / self.mean for number in count(1))
        halting = logarithmic_halting(self.mean)
        yield from ((1 - halting) ** number / (number * -math.log(halting)) for number in count(1))
