"""docs/extending.md: its Python blocks run, in order and in one namespace; those that name a file are in that file."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "extending.md"
FENCE = re.compile(r"```(\w+)(?: (\S+))?\n(.*?)```\n", re.DOTALL)
BLOCKS = list(FENCE.finditer(PAGE.read_text(encoding="utf-8")))
QUOTES = [(block[2], block[3]) for block in BLOCKS if block[2]]


def script_of(page):
    """The blocks that quote no file, each on the lines that it has in the page, so that tracebacks name those."""
    script = ""
    for block in BLOCKS:
        if block[1] == "python" and not block[2]:
            script += "\n" * (page.count("\n", 0, block.start(3)) - script.count("\n")) + block[3]
    return script


def test_the_blocks_run_in_order(tmp_path):
    script = tmp_path / "extending.py"
    script.write_text(script_of(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "the model has provenance 'private' and may not enter a loop that clips gradients" in done.stdout
    assert "the teacher has provenance 'private' and may not enter a formal run beside the student" in done.stdout


@pytest.mark.parametrize(("path", "text"), QUOTES, ids=[path for path, _ in QUOTES])
def test_what_is_quoted_is_in_the_file(path, text):
    assert text in (ROOT / path).read_text(encoding="utf-8")


def test_files_that_the_page_names_are_there():
    named = re.findall(r"`([\w/]+/[\w-]+\.(?:py|yaml))`", PAGE.read_text(encoding="utf-8"))
    missing = {path for path in named if not (ROOT / path).exists()}
    assert missing == {"dpsad/data/stripes.py"}, "the one that a reader would write"
