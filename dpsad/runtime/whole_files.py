"""Whole files: a path holds all that was written to it last, or what it held before, wherever a process is killed."""

import ctypes
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

AT_FDCWD, RENAME_EXCHANGE = -100, 2  # of renameat2, which Python does not wrap
T = TypeVar("T")

PUBLIC, PRIVATE = 0o666, 0o600  # who may read, less what the umask takes


def temporary_of(path: Path) -> Path:
    """Where what becomes `path` is written until it is whole."""
    return path.with_name(f".{path.name}.part")


def is_temporary(path: Path) -> bool:
    """Whether a path is of that form."""
    return path.match(temporary_of(Path("*")).name)


@contextmanager
def whole(path: Path, mode: int = PUBLIC) -> Iterator[BinaryIO]:
    """A file to write in, which takes the place of `path` once the block is done, and is removed where it is not."""
    temporary = temporary_of(path)
    try:
        with open(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: Path, text: str, mode: int = PUBLIC) -> None:
    """Writes a text in UTF-8, whole or not at all."""
    with whole(path, mode) as file:
        file.write(text.encode())


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write in, which takes the place of `path` once the block is done, and is removed where it is not.

    On Linux whoever looks at `path` meanwhile finds the old folder or the new one; elsewhere, for a moment, none.
    """
    draft, aside = temporary_of(path), temporary_of(path.with_name(f"{path.name}.old"))
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        yield draft
        if path.exists() and not _exchanged(draft, path):
            os.replace(path, aside)
        if draft.exists() and not path.exists():
            os.replace(draft, path)
    finally:
        for left in (draft, aside):
            shutil.rmtree(left, ignore_errors=True)


def read_whole_folder(path: Path, read: Callable[[Path], T]) -> T:
    """What `read` makes of a folder: of one, though another may take its place meanwhile; it is then called anew."""
    while True:
        before = _which(path)
        try:
            found = read(path)
        except (OSError, ValueError):
            if _which(path) == before:
                raise
        else:
            if _which(path) == before:
                return found


def _which(path: Path) -> tuple[int, int] | None:
    """What tells a folder from another in its place; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_ctime_ns


def _exchanged(one: Path, other: Path) -> bool:
    """Whether two folders have changed places, at once; not every system and file system can."""
    try:
        names = (AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other))
        return ctypes.CDLL(None).renameat2(*names, RENAME_EXCHANGE) == 0
    except (AttributeError, OSError, TypeError):
        return False


def remove_temporaries(folder: Path) -> None:
    """Removes what killed processes left half-written in a folder; nobody else may be writing there."""
    for path in filter(is_temporary, folder.iterdir()):
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
