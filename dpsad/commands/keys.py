"""What `dpsad keys` does: every key of a config, as the dataclasses declare and describe it."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from dpsad.api.config import Config
from dpsad.errors import require_choice
from dpsad.privacy.ranges import Range, declared

_NAMES = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key.

    kind: of its values, such as "whole number", or "list of numbers".
    range: of a number, such as "[1, 1e9]"; "" where any value of its kind will do, or others are checked by name.
    default: as one would type it.
    meaning: in words.
    """

    key: str
    kind: str
    range: str
    default: str
    meaning: str

    def __str__(self) -> str:
        within = f" in {self.range}" if self.range else ""
        return f"{self.key}={self.default}\n    {self.kind}{within}. {self.meaning}"


def all_keys(config: Any = None, prefix: str = "") -> Iterator[Key]:
    """Every key of a config, section by section, in the order of the fields.

    Args:
        config: the dataclass whose values are the defaults; None takes the defaults of all.
    """
    config = Config() if config is None else config
    hints, meanings = declared(type(config)), meanings_of(type(config))
    for field in fields(config):
        hint, value = hints[field.name], getattr(config, field.name)
        if is_dataclass(hint):
            yield from all_keys(value, f"{prefix}{field.name}.")
        else:
            kind, interval = kind_of(hint)
            meaning = meanings.get(field.name, "")
            yield Key(key=prefix + field.name, kind=kind, range=interval, default=_typed(value), meaning=meaning)


def keys_of_section(section: str) -> list[Key]:
    """The keys of a section, the one key of that name, or all for "".

    Raises:
        ValueError: there is neither such a section nor such a key.
    """
    keys = list(all_keys())
    found = [key for key in keys if not section or f"{key.key}.".startswith(f"{section}.")]
    if not found:
        sections = dict.fromkeys(key.key.rpartition(".")[0] for key in keys if "." in key.key)
        require_choice(
            "section", section, [*sections, *(key.key for key in keys if "." in section or "." not in key.key)]
        )
    return found


def meanings_of(schema: type) -> dict[str, str]:
    """What a dataclass's docstring says of each field: paragraphs such as "sigma_min, sigma_max: noise levels."

    Lines of a paragraph beyond the first are indented further than it is.
    """
    meanings: dict[str, str] = {}
    names: list[str] = []
    for line in (schema.__doc__ or "").splitlines():
        begun = re.match(r"\s*(\w+(?:, \w+)*): (.*)", line)
        if begun and {*begun[1].split(", ")} <= {field.name for field in fields(schema)}:
            names = begun[1].split(", ")
            meanings |= dict.fromkeys(names, begun[2].strip())
        elif names and line.strip():
            meanings |= {name: f"{meanings[name]} {line.strip()}" for name in names}
        else:
            names = []
    return meanings


def kind_of(hint: Any) -> tuple[str, str]:
    """A type in words, and the range of its numbers."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return kind_of(inner[0])[0], "".join(str(part) for part in inner[1:] if isinstance(part, Range))
    if origin in (Union, UnionType):
        kinds, ranges = zip(*map(kind_of, inner), strict=True)
        return " or ".join(kinds), "".join(ranges)
    if origin in (list, tuple):
        kind, interval = kind_of(inner[0])
        number = "list of " if inner[-1] is Ellipsis or origin is list else f"list of {len(inner)} "
        return f"{number}{kind}s", interval
    return _NAMES.get(hint, getattr(hint, "__name__", str(hint))), ""


def _typed(value: Any) -> str:
    """A value as one types it on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"[{','.join(map(_typed, value))}]"
    return str(value)
