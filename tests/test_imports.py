"""What is loaded and when: help comes at once, and whatever is imported is declared."""

import ast
import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = (
    "torch",
    "torchvision",
    "dp_accounting",
    "opacus",
    "sklearn",
    "matplotlib",
    "torchmetrics",
    "omegaconf",
    "numpy",
)
COUNT = """
import sys
sys.argv = ["dpsad", *sys.argv[1:]]
from dpsad.cli import main
try:
    main()
finally:
    print("LOADED", len(sys.modules), *(name for name in {heavy} if name in sys.modules))
"""


def loaded(*words):
    """How many modules a command loads, and which of the heavy ones."""
    command = [sys.executable, "-c", COUNT.format(heavy=HEAVY), *words]
    done = subprocess.run(command, cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=False)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("LOADED")]
    number, *heavy = line.split()[1:]
    return int(number), heavy, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (("--help",), "Trains private image generators"),
        (("--version",), "dpsad 0."),
        (("presets",), "mnist-epsilon1"),
        (("evaluate", "--help"), "wrn-40-4"),
        (("ablate", "--help"), "lambda"),
        (("sample", "--num", "x", "runs/a"), "valid integer"),
        (("tech",), "No such command"),
        (("evaluate", "runs/a", "--classifier", "cnm"), "did you mean 'cnn'"),
    ],
)
def test_help_and_errors_of_usage_load_nothing_heavy(words, printed):
    number, heavy, output = loaded(*words)
    assert printed in output
    assert heavy == []
    assert number < 400


def test_commands_load_no_library_that_few_of_them_need():
    """torchvision and torchmetrics take as long as torch, and bring matplotlib and torch's compiler."""
    rooms = "dpsad.commands.evaluate, dpsad.commands.stages, dpsad.api.training"
    program = f"import {rooms}, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True
    )
    unwanted = {"torchvision", "torchmetrics", "matplotlib", "sklearn", "opacus", "torch._dynamo"}
    assert unwanted & set(done.stdout.split()) == set()


def test_importing_the_package_loads_none_of_its_rooms():
    done = subprocess.run(
        [sys.executable, "-c", "import dpsad, sys; print(*(name for name in sys.modules if name.startswith('dpsad')))"],
        cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["dpsad"]


@pytest.mark.parametrize(("told", "found"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_threads_that_wait_sleep_unless_told_otherwise(told, found):
    environment = {key: value for key, value in os.environ.items() if key != "OMP_WAIT_POLICY"}
    done = subprocess.run(
        [sys.executable, "-c", "import dpsad, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"],
        cwd=Path(__file__).parent.parent, capture_output=True, text=True, check=True, env={**environment, **told},
    )  # fmt: skip
    assert done.stdout.split() == [found, "False"]


DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml", "attr": "attrs"}  # where names differ


def imported(folders):
    """Names of packages that files import, wherever in them."""
    root, found = Path(__file__).parent.parent, set()
    for path in (path for folder in folders for path in (root / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found |= {name.split(".")[0] for name in names}
    own = {
        "dpsad",
        "teachers",
        "students",
        "discriminators",
        *(path.stem for folder in ("benchmarks", "tests/mutations") for path in (root / folder).glob("*.py")),
    }
    return {DISTRIBUTIONS.get(name, name.replace("_", "-")) for name in found - own - set(sys.stdlib_module_names)}


@pytest.mark.parametrize(
    ("folders", "extras"),
    [
        (("dpsad", "teachers", "students", "discriminators"), ("inception", "tensorboard", "parquet")),
        (("tests", "benchmarks"), ("dev",)),
    ],
)
def test_what_is_imported_is_declared(folders, extras):
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] + [line for extra in extras for line in project["optional-dependencies"][extra]]
    declared = {re.match(r"[\w-]+", line).group().lower() for line in lines}
    assert imported(folders) <= declared


OWN = ("dpsad", "teachers", "students", "discriminators")


def imports_from_the_project():
    root = Path(__file__).parent.parent
    for path in sorted((root / "benchmarks").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OWN:
                yield from (
                    pytest.param(node.module, alias.name, id=f"{path.stem}-{alias.name}") for alias in node.names
                )


@pytest.mark.parametrize(("module", "name"), [*imports_from_the_project()])
def test_what_a_benchmark_takes_from_the_project_is_there(module, name):
    """No test runs them: what has moved would be found by whoever wants a figure."""
    found = importlib.import_module(module)
    if not hasattr(found, name):
        importlib.import_module(f"{module}.{name}")
