"""Provenance: where a model's knowledge comes from, and with what it may meet."""

from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import Any


class Provenance(str, Enum):
    """What a model or an image set has seen."""

    PUBLIC = "public"  # nothing private
    RELEASED = "released"  # private records, only through charged releases
    PRIVATE = "private"  # private records, without protection


@dataclass(frozen=True)
class PublicImages:
    """A set of images that were taken to be public, by their content; a model carries those that it has learned from.

    size: (height, width) at which they were hashed.
    hashes: of each image, 8 bytes, in rising order; see `dpsad/data/public_images.py`. None where nobody
        noted which images they were.
    """

    size: tuple[int, int]
    hashes: bytes | None

    def state_dict(self) -> dict:
        hashes = "" if self.hashes == b"" else self.hashes  # torch reads no bytes of length 0
        return {"size": list(self.size), "hashes": hashes}

    @staticmethod
    def from_dict(state: dict) -> "PublicImages":
        height, width = state["size"]
        return PublicImages((height, width), b"" if state["hashes"] == "" else state["hashes"])


UNNOTED = PublicImages((0, 0), None)  # what public models of older files have learned from


def provenance_of(model: Any) -> Provenance:
    """What a model says of itself in `model.provenance`; one that says nothing has seen nothing: it is public."""
    return getattr(model, "provenance", Provenance.PUBLIC)


def public_images_of(model: Any) -> tuple[PublicImages, ...]:
    """The public images that a model says it has learned from, in `model.public_images`; set by set."""
    return getattr(model, "public_images", ())


def united(*seen: tuple[PublicImages, ...]) -> tuple[PublicImages, ...]:
    """The public images behind a model that was made of all of these, each set once."""
    return tuple(dict.fromkeys(chain(*seen)))


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
