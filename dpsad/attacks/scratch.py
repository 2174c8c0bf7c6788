"""Where a loop that is audited keeps what it must, for as long as it runs."""

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

from dpsad.runtime.checkpoint import Checkpoint
from dpsad.runtime.log import Log
from dpsad.runtime.run_folder import Run


@contextlib.contextmanager
def scratch() -> Iterator[tuple[Checkpoint, Log]]:
    """A checkpoint and a log that go when the block ends; there is no progress bar inside."""
    with tempfile.TemporaryDirectory(prefix="dpsad-audit-") as folder, contextlib.redirect_stderr(io.StringIO()):
        run = Run(Path(folder))
        run.private.mkdir()
        yield Checkpoint(run.checkpoint("audit")), Log(run, "audit")
