"""The notebooks run from the first cell to the last in their quick form, and are saved without outputs."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))
# shows the last expression of a cell, as a notebook does; figures go nowhere
SHOWN = "print({})"


def cells_of(path):
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def script_of(path):
    """All code cells in one namespace, each last expression shown."""
    shown = []
    for cell in cells_of(path):
        if cell["cell_type"] == "code":
            tree = ast.parse("".join(cell["source"]))
            if isinstance(tree.body[-1], ast.Expr):
                tree.body[-1] = ast.parse(SHOWN.format(ast.unparse(tree.body[-1]))).body[0]
            shown.append(ast.unparse(tree))
    return "\n\n".join(shown)


def test_there_are_three():
    assert [path.stem for path in FILES] == ["compare_with_dpdm", "digits_in_ten_lines", "own_folder"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_notebook_runs_from_first_to_last(path, tmp_path):
    script = tmp_path / f"{path.stem}.py"
    script.write_text(script_of(path), encoding="utf-8")
    quick = {"DPSAD_QUICK": "1", "MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    env = {**os.environ, **quick, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-W", "error::FutureWarning", script]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    if path.stem != "digits_in_ten_lines":
        page = Path(done.stdout.splitlines()[-1])
        assert page.name == "report.html"
        assert page.is_file()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_notebook_is_whole_and_without_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert cell["cell_type"] in ("markdown", "code")
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
