"""Ranges of numbers: declared beside a dataclass's field, held when it is made.

They live in this room since it imports no other: settings of all rooms declare theirs with them.

    @dataclass(frozen=True, kw_only=True)
    class RefineConfig:
        clip_norm: Positive = 0.5
        sigma_mean: Annotated[float, Range("[-10, 10]")] = -0.8

        def __post_init__(self) -> None:
            require_ranges(self, "refine")
"""

import math
import types
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

SHOWN_DIGITS = 20  # longer whole numbers are shown by their size


@dataclass(frozen=True)
class Range:
    """The numbers of an interval, NaN never among them.

    interval: as mathematics writes it: "(0, 1]" has 1 and not 0; "[0, inf)" has all finite numbers from 0 on.
    also: a number outside the interval that is allowed, too.
    """

    interval: str
    also: float | None = None

    def __contains__(self, number: float) -> bool:
        if number == self.also:
            return True
        low, high = map(float, self.interval[1:-1].split(","))
        above = number > low if self.interval[0] == "(" else number >= low
        below = number < high if self.interval[-1] == ")" else number <= high
        return above and below

    def __str__(self) -> str:
        return self.interval if self.also is None else f"{self.interval}, or {self.also:g}"


Count = Annotated[int, Range("[1, 1e9]")]  # of steps, records in a batch, channels, ...
CountOrZero = Annotated[int, Range("[0, 1e9]")]
Positive = Annotated[float, Range("(0, 1e6]")]
Weight = Annotated[float, Range("[0, 1e6]")]
Share = Annotated[float, Range("(0, 1)")]
Fraction = Annotated[float, Range("[0, 1]")]
ShareOrAll = Annotated[float, Range("(0, 1]")]
LearningRate = Annotated[float, Range("(0, 100]")]
HalfLife = Annotated[float, Range("(0, 1e12]")]  # images or steps
LogSigmaMean = Annotated[float, Range("[-10, 10]")]  # of noise levels; with a spread of 5 they stay finite in float32
LogSigmaStd = Annotated[float, Range("(0, 5]")]
Seed = Annotated[int, Range("[-9e18, 9e18]")]  # what 64 bits hold


def require_ranges(holder: object, section: str = "") -> None:
    """Refuses a number of a dataclass that is of the wrong type, or outside the range that its field declares.

    Args:
        holder: the dataclass.
        section: of the config; names the field in errors.

    Raises:
        ValueError: such as "refine.clip_norm=inf must be in (0, 1e6]".
    """
    for name, hint in declared(type(holder)).items():
        require_within(f"{section}.{name}" if section else name, getattr(holder, name), hint)


def declared(schema: type) -> dict[str, Any]:
    """Each field of a dataclass with its type, and its range where it is a number."""
    return get_type_hints(schema, include_extras=True)


def require_within(key: str, value: Any, hint: Any) -> None:
    """Refuses a number, or a list with one, that its type and range do not allow. What is no number passes.

    Args:
        hint: such as `Annotated[float, Range("(0, 1)")]`, that or None, or a tuple of such.

    Raises:
        ValueError: it is of another type, or outside the range.
    """
    if wanted := _refused(value, hint):
        raise ValueError(f"{key}={_shown(value)} must be {wanted}")


def _refused(value: Any, hint: Any) -> str | None:
    """What a value must be and is not; None where it may stay."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return None if value is None else next(filter(None, (_refused(value, option) for option in inner)), None)
    if origin is tuple:
        kinds = inner[:1] * len(value) if inner[-1] is Ellipsis else inner
        if len(value) != len(kinds):
            return f"{len(kinds)} numbers"
        wanted = next(filter(None, map(_refused, value, kinds)), None)
        return wanted and f"a list, each {wanted}"
    if origin is not Annotated:
        return None
    kind, interval = inner
    if isinstance(value, bool) or not isinstance(value, Integral if kind is int else Real):
        return f"a {'whole ' if kind is int else ''}number in {interval}"
    return None if value in interval else f"in {interval}"


def _shown(value: Any) -> str:
    """A value in an error, whole numbers without end by their size."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, int) and abs(value) >= 10**SHOWN_DIGITS:
        return f"{'-' if value < 0 else ''}1e{math.log10(abs(value)):.0f}"
    return repr(value)
