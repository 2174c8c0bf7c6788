"""What `dpsad keys` does: every key of a config, from a file that `make keys` writes, so that no network is loaded."""

import json
from dataclasses import dataclass
from pathlib import Path

from dpsad.errors import require_choice

KEYS = Path(__file__).with_name("keys.json")


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


def all_keys() -> list[Key]:
    """Every key of a config, section by section, in the order of the fields."""
    return [Key(**told) for told in json.loads(KEYS.read_text(encoding="utf-8"))]


def keys_of_section(section: str) -> list[Key]:
    """The keys of a section, the one key of that name, or all for "".

    Raises:
        ValueError: there is neither such a section nor such a key.
    """
    keys = all_keys()
    found = [key for key in keys if not section or f"{key.key}.".startswith(f"{section}.")]
    if not found:
        sections = dict.fromkeys(key.key.rpartition(".")[0] for key in keys if "." in key.key)
        require_choice(
            "section", section, [*sections, *(key.key for key in keys if "." in section or "." not in key.key)]
        )
    return found
