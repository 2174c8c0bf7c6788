"""Folders that cannot be made or locked; test_ledger_command.py has two processes in one."""

import errno
import os

import pytest

from dpsad.runtime import run_lock
from dpsad.runtime.run_folder import Run


def test_a_folder_below_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    refused = pytest.raises(ValueError, match=r"run=.* cannot be written in \(Not a directory\); pass another run=")
    with refused, run_lock.held(Run(tmp_path / "file" / "run")):
        pass


@pytest.mark.skipif(run_lock.fcntl is None, reason="no locks on Windows")
def test_a_file_system_without_locks_is_refused(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(run_lock.fcntl, "flock", flock)
    refused = pytest.raises(ValueError, match=r"cannot be locked \(.*\), .* on a file system with locks")
    with refused, run_lock.held(Run(tmp_path / "run")):
        pass
