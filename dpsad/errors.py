"""Errors for users: messages say what is wrong, its value and the mend. Any room may import this; it imports none."""

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path

SHOWN = 1200  # letters of a message at most: a value may be of any length
MENDS = {  # of what an operating system refuses
    errno.ENOENT: "name one that is there",
    errno.EACCES: "change its permissions, or name another place",
    errno.EPERM: "change its permissions, or name another place",
    errno.EROFS: "name a place on another disk",
    errno.ENOSPC: "free some space there and run the same command again",
    errno.EDQUOT: "free some space there and run the same command again",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), and run the same command again",
    errno.EISDIR: "name a file",
    errno.ENOTDIR: "name a folder, or a file in one",
    errno.ENAMETOOLONG: "name a shorter one",
    errno.ELOOP: "name what its links should lead to",
}


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


def require_file(path: Path, named: str = "") -> None:
    """Refuses what is no file with bytes in it: a folder, a pipe or a device, which would be waited for without end.

    Args:
        named: what it is called in the error; its path where "".

    Raises:
        ValueError: it is not there, or none, or empty.
    """
    named = named or str(path)
    try:
        found = path.stat()
    except (OSError, ValueError) as error:  # the latter where a name has a NUL
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"{named} cannot be read ({reason}); name a file that is there") from None
    if stat.S_ISDIR(found.st_mode):
        raise ValueError(f"{named} is a folder; name a file")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError(f"{named} is no regular file, but a pipe, a socket or a device; copy it to a file first")
    if not found.st_size:
        raise ValueError(f"{named} is damaged: it is empty; restore it from a copy, or name another")


@contextmanager
def reading(path: Path, *, refused: type[Exception] = OSError) -> Iterator[None]:
    """What goes wrong in this block is laid to the file's content: it is not what dpsad writes there.

    Args:
        refused: a kind of error that is none of the file's, such as a budget that its charges exceed.

    Raises:
        ValueError: names the file, whatever went wrong.
        OSError, refused: as it was raised.
    """
    try:
        yield
    except (OSError, refused):
        raise
    except Exception as error:  # formats raise nearly any kind on bytes of something else
        if _out_of_memory(error) or (isinstance(error, ValueError) and str(path) in str(error)):
            raise
        raise ValueError(
            f"{path} is damaged and cannot be read ({type(error).__name__}: {error}); restore it from a copy, or "
            "make it anew"
        ) from error


def require_memory(num_bytes: float, what: str, mend: str, *, there: float | None = None) -> None:
    """Refuses what cannot fit in this machine's memory, before any of it is asked for.

    Args:
        what: takes so many bytes.
        mend: what to do about it.
        there: bytes that there are; None asks the machine.

    Raises:
        ValueError: such as "--num 1000000000: images of 1x8x8 take 256 GB of memory, and this machine has 16; ..."
    """
    try:
        there = there or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not on Windows, where the allocation itself is refused
        return
    if num_bytes > there:
        raise ValueError(
            f"{what} takes {num_bytes / 1e9:.3g} GB of memory, and this machine has {there / 1e9:.3g}; {mend}"
        )


def message_of(error: Exception) -> str | None:
    """What to tell a user of an error, in a line; None where it is a fault of the program."""
    if isinstance(error, OSError) and error.strerror:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        mend = MENDS.get(error.errno or 0, "name another place, or run the same command again")
        told = f"{' -> '.join(names) or 'the system'}: {error.strerror}; {mend}"
    elif _out_of_memory(error):
        told = (
            f"there is not enough memory ({error}); lower a batch size, the size of a network, or the number of images"
        )
    elif isinstance(error, RecursionError):
        told = "something that was read is nested too deeply; write it with fewer levels"
    elif isinstance(error, ValueError | OSError):
        told = str(error)
    else:
        return None
    line = " ".join(part.strip() for part in told.splitlines()) or type(error).__name__
    shown = line if len(line) <= SHOWN else f"{line[: SHOWN // 2]} ... {line[-SHOWN // 2 :]}"
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in shown)


def _out_of_memory(error: Exception) -> bool:
    """torch says so in words."""
    words = ("can't allocate memory", "not enough memory", "Storage size calculation overflowed")
    said = isinstance(error, RuntimeError) and any(word in str(error) for word in words)
    return said or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
