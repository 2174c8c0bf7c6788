"""docs/extending.md: its Python blocks run, in order and in one namespace; those that name a file are in that file.

And the lines of README's section "From Python" run, with fewer steps.
"""

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

FEWER_STEPS = """
from functools import partial
import dpsad
few = {"network.channels": 8, "teacher.steps": 3, "student.steps": 2, "refine.steps": 2}
dpsad.train = partial(dpsad.train, settings=few)
dpsad.evaluate = partial(dpsad.evaluate, epochs=1)
"""


def script_of(page):
    """The blocks that quote no file, each on the lines that it has in the page, so that tracebacks name those."""
    script = ""
    for block in BLOCKS:
        if block[1] == "python" and not block[2]:
            script += "\n" * (page.count("\n", 0, block.start(3)) - script.count("\n")) + block[3]
    return script


def printed_by(script, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(script, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, path], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_blocks_run_in_order(tmp_path):
    printed = printed_by(script_of(PAGE.read_text(encoding="utf-8")), tmp_path)
    assert "the model has provenance 'private' and may not enter a loop that clips gradients" in printed
    assert "the teacher has provenance 'private' and may not enter a formal run beside the student" in printed


def test_the_lines_of_the_readme_run(tmp_path):
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("## From Python")[1]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    printed = printed_by(FEWER_STEPS + block, tmp_path)
    assert "refine, gradient rows: 10 x noise multiplier" in printed, "the preset's plan"
    assert re.search(r"^ten-lines +\d+\.\d{3} .* yes +dp-sad, records", printed, re.MULTILINE), "the comparison"
    assert "verdict: ten-lines: " in printed
    assert (tmp_path / "digits-release" / "privacy.json").is_file()


@pytest.mark.parametrize(("path", "text"), QUOTES, ids=[path for path, _ in QUOTES])
def test_what_is_quoted_is_in_the_file(path, text):
    assert text in (ROOT / path).read_text(encoding="utf-8")


def test_files_that_the_page_names_are_there():
    named = re.findall(r"`([\w/]+/[\w-]+\.(?:py|yaml))`", PAGE.read_text(encoding="utf-8"))
    missing = {path for path in named if not (ROOT / path).exists()}
    assert missing == {"dpsad/data/stripes.py"}, "the one that a reader would write"


def test_files_that_the_threat_model_names_are_there():
    page = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    named = re.findall(r"`([\w/]+/[\w-]+\.(?:py|yaml))`", page)
    assert len(named) > 8
    assert [path for path in named if not (ROOT / path).exists()] == []
