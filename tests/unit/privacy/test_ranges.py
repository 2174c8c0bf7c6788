"""Every number that a run can be told has a range, and what lies outside is refused by name."""

import math
from dataclasses import dataclass, is_dataclass
from typing import Annotated, Any, get_args, get_origin

import pytest

from dpsad.api.config import Config
from dpsad.data.records import Subject
from dpsad.privacy.plan import ReleasePlan, Unit
from dpsad.privacy.ranges import Count, Fraction, Range, Seed, Share, declared, require_ranges, require_within
from dpsad.release.students import ReleaseConfig
from dpsad.runtime.config_files import load_config

HUGE = 10**400  # no float holds it


def numbers_of(schema: type, prefix: str = "") -> dict[str, tuple[type, str, Any]]:
    """Dotted key -> the dataclass, the field and its type, for all numbers below `schema`, whether ranged or not."""
    found: dict[str, tuple[type, str, Any]] = {}
    for name, hint in declared(schema).items():
        if name.startswith("RENAMED_"):
            continue
        if is_dataclass(hint):
            found |= numbers_of(hint, f"{prefix}{name}.")
        elif kinds(hint) & {int, float}:
            found[prefix + name] = (schema, name, hint)
    return found


def kinds(hint: Any) -> set[Any]:
    """The plain types that a hint is made of."""
    origin = get_origin(hint)
    if origin is Annotated:
        return kinds(get_args(hint)[0])
    return set().union(*map(kinds, get_args(hint))) if origin else {hint}


def ranged(hint: Any) -> list[tuple[type, Range]]:
    """The number types of a hint with their ranges; a number without one fails here."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return [(inner[0], next(part for part in inner[1:] if isinstance(part, Range)))]
    assert hint not in (int, float), f"{hint} has no range"
    return [pair for part in inner for pair in ranged(part)] if origin else []


def is_list(hint: Any) -> bool:
    return get_origin(hint) is tuple


def ends(kind: type, interval: Range) -> tuple[list[float], list[float]]:
    """Numbers just inside and just outside a range, its ends among them."""
    low, high = map(float, interval.interval[1:-1].split(","))
    inside, outside = [], []
    for end, away in ((low, -1), (high, 1)):
        if math.isinf(end):
            (inside if end in interval else outside).append(end)
        elif kind is int:
            inside.append(int(end))
            outside.append(int(end) + away)
        else:
            near = math.nextafter(end, away * math.inf), math.nextafter(end, -away * math.inf)
            inside.append(end if end in interval else near[1])
            outside.append(near[0] if end in interval else end)
    return inside, outside


NUMBERS = numbers_of(Config)
CASES = [pytest.param(key, *of, id=key) for key, of in NUMBERS.items()]


def test_the_walk_finds_the_numbers():
    assert len(NUMBERS) > 120
    assert {"seed", "privacy.noise_seed", "shards.network.multipliers", "gs_wgan.generator.hidden"} <= NUMBERS.keys()


@pytest.mark.parametrize(("key", "section", "name", "hint"), CASES)
def test_every_number_has_a_range_that_its_default_is_in(key, section, name, hint):
    ((kind, interval),) = ranged(hint)
    default = section.__dataclass_fields__[name].default
    for number in default if is_list(hint) else () if default is None else (default,):
        assert number in interval
    if kind is int:
        assert math.isfinite(float(interval.interval[1:-1].split(",")[1]))


@pytest.mark.parametrize(("key", "section", "name", "hint"), CASES)
def test_what_is_no_number_of_the_range_is_refused_from_python(key, section, name, hint):
    ((kind, interval),) = ranged(hint)
    wrong = [math.nan, -math.inf, HUGE, -HUGE, "3", True, *ends(kind, interval)[1]]
    wrong += [2.5] if kind is int else []
    wrong += [] if math.inf in interval else [math.inf]
    for value in wrong:
        if value == HUGE and math.inf in interval:
            continue
        with pytest.raises(ValueError, match=rf"\b{name}=.* must be .*{interval.interval[1:-1]}"):
            section(**{name: (value,) if is_list(hint) else value})


@pytest.mark.parametrize(("key", "section", "name", "hint"), CASES)
def test_what_is_no_number_of_the_range_is_refused_on_the_command_line(key, section, name, hint):
    """Each section alone, which is read as the whole config is, and ten times faster."""
    ((kind, interval),) = ranged(hint)
    for value in ("nan", "-inf", "true", "1e400", HUGE, *ends(kind, interval)[1]):
        if math.inf in interval and value in ("1e400", HUGE):
            continue
        with pytest.raises(ValueError, match=rf"^{name}="):
            load_config(section, base=None, overrides=[f"{name}=[{value}]" if is_list(hint) else f"{name}={value}"])


@pytest.mark.parametrize(("key", "section", "name", "hint"), CASES)
def test_the_ends_of_a_range_are_in_it(key, section, name, hint):
    ((kind, interval),) = ranged(hint)
    for number in ends(kind, interval)[0]:
        require_within(key, (number,) if is_list(hint) else number, hint)


def test_no_budget_at_all_is_no_noise():
    config = load_config(Config, base=None, overrides=["privacy.epsilon=inf"])
    assert config.privacy.epsilon == math.inf


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("refine.clip_norm", "inf"),
        ("teacher.learning_rate", "nan"),
        ("shards.levels", "[1,nan]"),
        ("shards.network.channels", "-1"),
        ("gs_wgan.generator.hidden", "0"),
        ("public_data.limit", "-1"),
        ("seed", "1e400"),
    ],
)
def test_a_number_is_named_by_its_whole_key(key, value):
    """Also where a section is used twice, under other names than its own."""
    with pytest.raises(ValueError, match=rf"^{key}=.* must be "):
        load_config(Config, base=None, overrides=[f"{key}={value}"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0, -1.0, True, "1"])
def test_a_plan_bounds_rows_by_a_finite_number(value):
    with pytest.raises(ValueError, match="clip_norm="):
        ReleasePlan(purpose="", unit=Unit.RECORD, clip_norm=value)


@pytest.mark.parametrize("values", [{"noise_multiplier": math.nan}, {"sampling_prob": math.nan}, {"num_releases": 1.5}])
def test_a_plan_has_no_number_that_is_none(values):
    with pytest.raises(ValueError, match=rf"^{next(iter(values))}="):
        ReleasePlan(purpose="", unit=Unit.RECORD, clip_norm=1.0, **values)


@pytest.mark.parametrize("shape", [(1, 28, 0), (1, math.nan, 28), (1, 28), (1, 28, math.inf)])
def test_images_have_a_shape_of_whole_numbers(shape):
    with pytest.raises(ValueError, match="image_shape="):
        Subject(shape, ("a", "b"))


def test_a_release_is_of_whole_images():
    with pytest.raises(ValueError, match="image_shape="):
        ReleaseConfig(image_shape=(1, -8, 8), class_names=("a",))
    with pytest.raises(ValueError, match="fine_tuned=nan"):
        ReleaseConfig(image_shape=(1, 8, 8), class_names=("a",), fine_tuned=math.nan)


@pytest.mark.parametrize(
    ("interval", "inside", "outside"),
    [
        ("(0, 1]", (5e-324, 0.5, 1), (0, math.nextafter(1, 2), -1)),
        ("[-1, 1)", (-1, 0), (1, math.nextafter(-1, -2))),
        ("[0, inf)", (0, 1e308), (math.inf, -1)),
        ("(0, inf]", (math.inf, HUGE), (0, -math.inf)),
    ],
)
def test_brackets_say_which_end_is_in(interval, inside, outside):
    assert all(number in Range(interval) for number in inside)
    assert not any(number in Range(interval) for number in (*outside, math.nan))


def test_errors_say_what_would_do():
    @dataclass
    class Section:
        steps: Count = 1
        seed: Seed | None = None
        shares: tuple[Share, ...] = ()
        pair: tuple[Fraction, Fraction] = (0, 1)

    for values, message in [
        ({"steps": 0}, "x.steps=0 must be in [1, 1e9]"),
        ({"steps": 2.0}, "x.steps=2.0 must be a whole number in [1, 1e9]"),
        ({"steps": 10**5000}, "x.steps=1e5000 must be in [1, 1e9]"),
        ({"seed": -HUGE}, "x.seed=-1e400 must be in [-9e18, 9e18]"),
        ({"shares": (0.5, math.nan)}, "x.shares=[0.5, nan] must be a list, each in (0, 1)"),
        ({"pair": (0.5,)}, "x.pair=[0.5] must be 2 numbers"),
    ]:
        with pytest.raises(ValueError, match="x") as caught:
            require_ranges(Section(**values), "x")
        assert str(caught.value) == message
    require_ranges(Section(steps=10**9, seed=7, shares=(0.5,)), "x")
