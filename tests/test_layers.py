"""Imports point one way: a room knows the rooms below it and no other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = [  # from low to high; rooms of one layer do not know each other
    {"dpsad.errors", "dpsad.privacy"},
    {"dpsad.diffusion", "dpsad.networks", "dpsad.data"},
    {"dpsad.config_files", "dpsad.checkpoint", "dpsad.ablations"},
    {"dpsad.runs"},
    {"teachers", "students", "discriminators"},
    {"dpsad.stages", "dpsad.evaluation", "dpsad.audit", "dpsad.report"},
    {"dpsad.release", "dpsad.config"},
    {"dpsad.build"},
    {"dpsad.build_rows", "dpsad.build_sketch"},
    {"dpsad.sketching"},
    {"dpsad.fitting", "dpsad.denoiser_files"},
    {"dpsad.baselines"},
    {"dpsad.build_baseline"},
    {"dpsad.account", "dpsad.training", "dpsad.baselining", "dpsad.judging"},
    {"dpsad.ablate"},
    {"dpsad.cli"},
]
HEIGHT = {room: height for height, rooms in enumerate(LAYERS) for room in rooms}
ALLOWED = {
    ("dpsad", "dpsad.release"): "the package's face: `from dpsad import load_student`",
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {
    module_of(path): path
    for package in ("dpsad", "teachers", "students", "discriminators")
    for path in sorted((ROOT / package).rglob("*.py"))
}


def room_of(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "dpsad" else parts[0]


def imports_of(source: str, modules: set[str]) -> set[str]:
    """Modules of the project that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: write the import out from the package's name"
            submodules = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (submodules & modules) or {node.module or ""}
    return {name for name in found if name.split(".")[0] in {module.split(".")[0] for module in modules}}


def wrong_arrows(sources: dict[str, str]) -> list[str]:
    """Imports of a room that is not below the importing one, and not allowed by name."""
    wrong = []
    for module, source in sources.items():
        for imported in sorted(imports_of(source, set(sources))):
            here, there = room_of(module), room_of(imported)
            if here == there or (here, there) in ALLOWED:
                continue
            if not HEIGHT.get(there, 99) < HEIGHT.get(here, -1):
                wrong.append(f"{module} imports {imported}")
    return wrong


def test_no_import_points_back():
    assert wrong_arrows({module: path.read_text(encoding="utf-8") for module, path in SOURCES.items()}) == []


def test_every_room_has_its_layer():
    rooms = {room_of(module) for module in SOURCES} - {"dpsad"}
    assert rooms <= HEIGHT.keys(), f"give {sorted(rooms - HEIGHT.keys())} a layer here"


def test_privacy_knows_nothing_else_of_the_project():
    for module, path in SOURCES.items():
        if room_of(module) == "dpsad.privacy":
            imported = imports_of(path.read_text(encoding="utf-8"), set(SOURCES))
            assert {room_of(name) for name in imported} <= {"dpsad.privacy"}, module


@pytest.mark.parametrize(
    "line",
    [
        "from dpsad.stages.sketch import sketch",
        "import dpsad.cli",
        "from dpsad import build",
        "def later():\n    from students.base import propose",
        "from dpsad.data.records import ImageSet",
        "from dpsad import load_student",
        "from dpsad.somewhere import new",
    ],
)
def test_an_arrow_that_points_back_is_found(line):
    sources = dict.fromkeys(SOURCES, "")
    assert len(wrong_arrows({**sources, "dpsad.diffusion.ema": line})) == 1
    assert wrong_arrows({**sources, "dpsad.diffusion.ema": "import torch\nfrom dpsad.errors import nearest"}) == []


def test_a_student_can_be_imported_before_anything_else():
    command = [sys.executable, "-c", "import students.few_step"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
