"""Provenance: where a model's knowledge comes from, and with what it may meet."""

from enum import Enum
from typing import Any


class Provenance(str, Enum):
    """What a model or an image set has seen."""

    PUBLIC = "public"  # nothing private
    RELEASED = "released"  # private records, only through charged releases
    PRIVATE = "private"  # private records, without protection


def provenance_of(model: Any) -> Provenance:
    """What a model says of itself in `model.provenance`; one that says nothing has seen nothing: it is public."""
    return getattr(model, "provenance", Provenance.PUBLIC)


def combined(*seen: Provenance) -> Provenance:
    """What a model has seen that was made of all of these: the most private of them."""
    return next(kind for kind in reversed(Provenance) if kind in seen or kind is Provenance.PUBLIC)


def require_released(what: str, provenance: Provenance, where: str) -> None:
    """Refuses a model that saw private records without protection.

    Raises:
        ValueError: `provenance` is private.

    Formal guarantee: what passes can be used inside a record's row, or beside the student without a row, at no cost;
    a private model there would let other records into the row, and clipping would bound nothing.
    """
    if provenance is Provenance.PRIVATE:
        raise ValueError(
            f"{what} has provenance 'private' and may not enter {where}: it saw records without protection, so a row "
            "would carry other records than its own; use teacher.data=prototypes or public, or guarantee=nominal"
        )
