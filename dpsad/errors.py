"""Errors for users: messages say what is wrong, its value and the mend. Any room may import this; it imports none."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches


class CheckpointError(OSError):
    """A checkpoint that could not be written; the one before it is untouched."""


def nearest(word: str, options: Iterable[str], *, similarity: float = 0.6) -> str | None:
    """The option that `word` is most likely a slip of; None where none is at least `similarity` (0..1) like it."""
    return next(iter(get_close_matches(word, options, n=1, cutoff=similarity)), None)


def require_choice(key: str, value: str, options: Sequence[str]) -> None:
    """Refuses a value that is not among `options`.

    Raises:
        ValueError: such as "guarantee='record' must be one of records, shards, nominal; did you mean 'records'?"
    """
    if value not in options:
        near = nearest(value, options)
        hint = f"; did you mean {near!r}?" if near else ""
        raise ValueError(f"{key}={value!r} must be one of {', '.join(options)}{hint}")
