"""One process at a time writes in a run folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, TextIO

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from dpsad.runtime.run_folder import Run


@contextmanager
def held(run: Run) -> Iterator[None]:
    """Keeps other processes from writing in a run folder, which is made if need be, as long as the block lasts.

    Two that write at once would each make the releases that only one of them charges. The lock goes with the process,
    however that ends: what a dead one left behind keeps nobody out.

    Raises:
        ValueError: another process holds it, and the error says which, where and since when; the folder cannot be made
            or written in, or its file system has no locks.

    Edge cases: some network file systems lock for one machine alone, and Windows not at all; start one command a folder
    there.
    """
    with _opened(run) as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise ValueError(
                    f"{run.path} is being written by {holder}; wait until that is done, or pass another run=..."
                ) from None
            except OSError as error:
                raise ValueError(
                    f"{run.path} cannot be locked ({error.strerror}), so two processes could write in it at once; pass "
                    "run=... on a file system with locks, such as a local disk"
                ) from error
            if not run.lock.exists() or not os.path.samestat(os.fstat(file.fileno()), run.lock.stat()):
                raise ValueError(f"{run.path} was removed just now by another process; run the same command again")
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()} since {datetime.now():%Y-%m-%d %H:%M:%S}\n")
        file.flush()
        yield


def _opened(run: Run) -> TextIO:
    """The file that is locked, made if need be."""
    try:
        run.private.mkdir(mode=0o700, parents=True, exist_ok=True)
        return open(run.lock, "a+", encoding="utf-8")
    except OSError as error:
        raise ValueError(f"run={run.path} cannot be written in ({error.strerror}); pass another run=...") from error
