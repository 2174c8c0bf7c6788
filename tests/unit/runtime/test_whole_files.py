"""Files and folders that are whole wherever a process is killed, and for whoever reads meanwhile."""

import os
import stat
import threading

import pytest

from dpsad.runtime import whole_files
from dpsad.runtime.whole_files import (
    PRIVATE,
    is_temporary,
    read_whole_folder,
    remove_temporaries,
    temporary_of,
    whole,
    whole_folder,
    write_whole,
)


def test_a_file_holds_the_old_text_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    write_whole(path, "old")
    with whole(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    with pytest.raises(ZeroDivisionError), whole(path) as file:
        file.write(b"half" + bytes(1 // 0))
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("file", "new")]


def test_private_files_are_their_owners_alone(tmp_path):
    write_whole(tmp_path / "file", "", PRIVATE)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_temporaries_go_and_nothing_else(tmp_path):
    folder = temporary_of(tmp_path / "release")
    folder.mkdir()
    for path in (folder / "file", temporary_of(tmp_path / "file"), tmp_path / "a.part", tmp_path / ".hidden"):
        path.write_text("")
    (tmp_path / "below").mkdir()
    os.symlink(tmp_path / "below", temporary_of(tmp_path / "link"))
    assert is_temporary(folder)
    remove_temporaries(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".hidden", "a.part", "below"]


@pytest.mark.parametrize("swaps", [True, False])
def test_a_folder_takes_anothers_place_whole(tmp_path, monkeypatch, swaps):
    if not swaps:
        monkeypatch.setattr(whole_files, "_exchanged", lambda one, other: False)
    path = tmp_path / "release"
    for number in range(3):
        with whole_folder(path) as draft:
            (draft / str(number)).write_text("")
            assert [file.name for file in path.glob("*")] == ([str(number - 1)] if number else [])
    with pytest.raises(ZeroDivisionError), whole_folder(path) as draft:
        (draft / "4").write_text("" * (1 // 0))
    assert [file.name for file in path.iterdir()] == ["2"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("swaps", [True, False])
def test_readers_see_one_folder_though_it_is_replaced_again_and_again(tmp_path, monkeypatch, swaps):
    """Two files that are alike in each; without a way to swap there may be none for a moment, but never two halves."""
    if not swaps:
        monkeypatch.setattr(whole_files, "_exchanged", lambda one, other: False)
    elif not hasattr(whole_files.ctypes.CDLL(None), "renameat2"):
        pytest.skip("this system cannot swap folders")
    path, stop = tmp_path / "release", threading.Event()

    def write(number):
        with whole_folder(path) as draft:
            for name in "ab":
                (draft / name).write_text(str(number))

    def keep_writing():
        number = 1
        while not stop.is_set():
            write(number)
            number += 1

    write(0)
    writer = threading.Thread(target=keep_writing)
    writer.start()
    seen, absent = set(), 0
    try:
        while len(seen) < 50:
            try:
                first, second = read_whole_folder(path, lambda folder: [(folder / name).read_text() for name in "ab"])
            except FileNotFoundError:
                absent += 1
                continue
            assert first == second
            seen.add(first)
    finally:
        stop.set()
        writer.join()
    assert not (swaps and absent)


def test_what_is_wrong_with_a_folder_that_stays_is_told(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_whole_folder(tmp_path, lambda folder: (folder / "none").read_text())
    with pytest.raises(FileNotFoundError):
        read_whole_folder(tmp_path / "none", lambda folder: (folder / "none").read_text())
