"""Runs that differ in their seed alone, taken together: means, and how far they spread."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev

from dpsad.evaluation.result import SetResult
from dpsad.report.reading import Result

NORMAL_QUANTILE = 1.96  # of 95 %, on both sides
PLACES = {"run", "device", "data.root", "public_data.root"}  # where a run was made, and no part of what it does
SEEDS = {"seed", "privacy.noise_seed"}


@dataclass(frozen=True)
class Figure:
    """A number with what is known of its error.

    mean: over runs.
    deviation: between runs; None of one, and of runs that agree to the last digit, as those of one sketch do.
    interval: where the number lies with 95 % confidence for the size of the test set alone, of one run; may be None.
    """

    mean: float
    deviation: float | None = None
    interval: tuple[float, float] | None = None

    @property
    def error(self) -> float:
        """Standard deviation; 0 where nothing is known of it."""
        if self.interval:
            return (self.interval[1] - self.interval[0]) / 2 / NORMAL_QUANTILE
        return self.deviation or 0.0

    def text(self, form: str) -> str:
        """Such as "0.9012 ± 0.0034" or "0.9012 (0.8921 to 0.9097)"."""
        if self.deviation is not None:
            return f"{self.mean:{form}} ± {self.deviation:{form}}"
        interval = f" ({self.interval[0]:{form}} to {self.interval[1]:{form}})" if self.interval else ""
        return f"{self.mean:{form}}{interval}"


@dataclass(frozen=True)
class Setting:
    """Runs that were told the same, but for the seed, and are measured alike; one at least."""

    results: tuple[Result, ...]

    @property
    def name(self) -> str:
        """The run's, or what the names of several have in common."""
        names = [result.name for result in self.results]
        if len(names) == 1:
            return names[0]
        alike = itertools.takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
        common = "".join(letters[0] for letters in alike).rstrip("-_./ ")
        return f"{f'{common}*' if common else ', '.join(names)} ({len(names)} runs)"

    @property
    def first(self) -> Result:
        return self.results[0]

    def accuracy(self, kind: str, of: str = "student") -> Figure | None:
        """Of classifiers trained on "student", "real" or "sketch"; None where none was."""

        def get(found: SetResult) -> float | None:
            return found.classifiers[kind].accuracy if kind in found.classifiers else None

        figure, evaluation = self.figure(get, of), self.first.evaluation
        if figure and evaluation and evaluation.num_test_images and figure.deviation is None:
            return Figure(figure.mean, interval=wilson_interval(figure.mean, evaluation.num_test_images))
        return figure

    def frechet(self, of: str = "student") -> Figure | None:
        """Distance of "student", "real" or "sketch"; None where it was not measured, or in several spaces."""
        spaces = {result.evaluation.features.fingerprint for result in self.results if result.evaluation}
        return self.figure(lambda found: found.frechet, of) if len(spaces) == 1 else None

    def figure(self, get: Callable[[SetResult], float | None], of: str) -> Figure | None:
        """A number of each run's set, taken together. Real images that several runs were held against count once."""
        sets = [
            result.evaluation.sets[of] for result in self.results if result.evaluation and of in result.evaluation.sets
        ]
        values = [value for found in sets if (value := get(found)) is not None]
        if of == "real":
            values = sorted(set(values))
        if not values:
            return None
        return Figure(mean(values), stdev(values) if len(set(values)) > 1 else None)


def settings_of(results: Sequence[Result]) -> list[Setting]:
    """Takes runs of one data set together that differ in their seed alone, in the order in which they come up.

    A run that was not evaluated, or by another protocol or number of images, is another setting.
    """
    together: dict[str, list[Result]] = {}
    for result in results:
        told = {key: value for key, value in result.settings.items() if key not in PLACES | SEEDS and not _is_log(key)}
        found = result.evaluation
        measured = (found.protocol, found.student.num_images, found.num_test_images) if found else None
        claimed = (result.title, result.formal, result.epsilon, result.nominal_epsilon, result.delta, result.adjacency)
        key = json.dumps(
            [told, measured, claimed, result.unit, result.class_names, result.image_shape], sort_keys=True, default=str
        )
        together.setdefault(key, []).append(result)
    return [Setting(tuple(members)) for members in together.values()]


def keys_that_differ(settings: Sequence[Setting]) -> dict[str, list[str]]:
    """Config key -> its value in each setting, of the keys that two settings state differently; "" where not stated."""
    keys = dict.fromkeys(key for setting in settings for result in setting.results for key in result.settings)
    table = {
        key: [", ".join(dict.fromkeys(_stated(result, key) for result in setting.results)) for setting in settings]
        for key in keys
        if key not in PLACES and not _is_log(key)
    }
    return {key: values for key, values in table.items() if len({value for value in values if value}) > 1}


def wilson_interval(share: float, num: int) -> tuple[float, float]:
    """Where a probability lies with 95 % confidence, if that share of `num` independent trials was a success.

    Source: Wilson 1927.
    """
    z = NORMAL_QUANTILE**2 / num
    centre, half = share + z / 2, math.sqrt(z * share * (1 - share) + z * z / 4)
    return max(0.0, (centre - half) / (1 + z)), min(1.0, (centre + half) / (1 + z))


def _stated(result: Result, key: str) -> str:
    if key not in result.settings:
        return ""
    value = result.settings[key]
    return value if isinstance(value, str) and value else json.dumps(value, default=str)


def _is_log(key: str) -> bool:
    return key.startswith("log.")
