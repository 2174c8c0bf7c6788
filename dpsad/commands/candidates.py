"""Candidates of `dpsad tune`: settings that may be chosen among, and those that may not."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product

from dpsad.api.config import Config

Read = Callable[[Sequence[str]], Config]  # further key=value -> the config with them
# whose data and what is promised of it; candidates are of one run
SETTLED = ("run", "device", "guarantee", "method", "data", "privacy", "log")


@dataclass(frozen=True)
class Candidate:
    """Settings to try.

    name: such as "teacher.steps=100, student.steps=50".
    changes: the `key=value` that make it.
    """

    name: str
    changes: tuple[str, ...]
    config: Config


def candidates_of(tries: Sequence[str], read: Read) -> list[Candidate]:
    """Every combination of one value of each key.

    Args:
        tries: "key=value,value,..." each; a comma inside brackets belongs to a value.

    Raises:
        ValueError: fewer than two, no such key, a key that is settled for all, or a config that cannot be repeated.
    """
    axes = [_axis(text) for text in tries]
    combined = [changes for changes in product(*axes) if changes]
    candidates = [Candidate(", ".join(changes), changes, read(changes)) for changes in dict.fromkeys(combined)]
    if len(candidates) < 2:
        raise ValueError(
            "there is nothing to choose among; pass --try key=value,value, such as --try teacher.steps=600,1200"
        )
    for candidate in candidates:
        _require_repeatable(candidate)
    return candidates


def _axis(text: str) -> list[str]:
    """The `key=value` of each of a key's values."""
    key, equals, values = text.partition("=")
    if not equals:
        raise ValueError(f"--try {text!r} has no '='; write --try {key}=VALUE,VALUE")
    if key.partition(".")[0] in SETTLED:
        raise ValueError(
            f"--try {key}: {key.partition('.')[0]} is one for all candidates, whose records and promise are the run's; "
            "set it once, without --try"
        )
    return [f"{key}={value}" for value in re.split(r",(?![^\[]*\])", values)]


def _require_repeatable(candidate: Candidate) -> None:
    """Refuses configs whose repetitions cannot be paid for together, or scored."""
    config = candidate.config
    if config.guarantee == "nominal" or config.privacy.epsilon == float("inf"):
        raise ValueError(
            f"guarantee={config.guarantee} with privacy.epsilon={config.privacy.epsilon:g} has no budget to pay for a "
            "choice; use guarantee=records and a finite privacy.epsilon, or `dpsad ablate`"
        )
    if config.teacher.path is not None:
        raise ValueError(
            f"teacher.path={config.teacher.path}: every repetition trains its own teacher; leave teacher.path out"
        )
    if not config.student.use_labels:
        raise ValueError(
            "student.use_labels=false: samples are scored by a classifier, which needs their classes; use "
            "student.use_labels=true"
        )
