"""Imports point one way: a room knows the rooms below it and no other."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FLOORS = [  # from low to high; rooms of one floor do not know each other
    {"dpsad.errors", "dpsad.privacy"},
    {"dpsad.data", "dpsad.diffusion", "dpsad.networks", "dpsad.audit"},
    {"dpsad.runtime", "teachers", "students", "discriminators"},
    {"dpsad.training", "dpsad.evaluation", "dpsad.release"},
    {"dpsad.methods", "dpsad.report"},
    {"dpsad.api", "dpsad.attacks"},
    {"dpsad.commands"},
    {"dpsad.cli"},
]
HEIGHT = {room: height for height, rooms in enumerate(FLOORS) for room in rooms}
FACE = "dpsad"  # `import dpsad; dpsad.train(...)`: loads what it is asked for, from wherever it lives


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
            if here in (there, FACE):
                continue
            if not HEIGHT.get(there, 99) < HEIGHT.get(here, -1):
                wrong.append(f"{module} imports {imported}")
    return wrong


def circles(sources: dict[str, str]) -> list[str]:
    """Files that, import by import, come back to themselves."""
    arrows = {module: imports_of(source, set(sources)) & set(sources) for module, source in sources.items()}
    found = []
    for start in arrows:
        reached, open_ends = set(), list(arrows[start])
        while open_ends:
            module = open_ends.pop()
            if module not in reached:
                reached.add(module)
                open_ends += arrows[module]
        if start in reached:
            found.append(start)
    return found


def read_sources() -> dict[str, str]:
    return {module: path.read_text(encoding="utf-8") for module, path in SOURCES.items()}


def test_no_import_points_back():
    assert wrong_arrows(read_sources()) == []


def test_no_file_imports_itself_by_a_detour():
    assert circles(read_sources()) == []
    assert circles({"dpsad.a": "import dpsad.b", "dpsad.b": "from dpsad import a"}) == ["dpsad.a", "dpsad.b"]


def test_there_are_eight_floors_and_every_room_is_on_one():
    assert len(FLOORS) == 8
    rooms = {room_of(module) for module in SOURCES} - {"dpsad"}
    assert rooms == HEIGHT.keys(), f"{sorted(rooms ^ HEIGHT.keys())} must be a room and on a floor"


def test_privacy_knows_nothing_else_of_the_project():
    for module, path in SOURCES.items():
        if room_of(module) == "dpsad.privacy":
            imported = imports_of(path.read_text(encoding="utf-8"), set(SOURCES))
            assert {room_of(name) for name in imported} <= {"dpsad.privacy"}, module


def test_the_config_stays_at_the_top():
    """What is below gets its own settings: nothing under `api` names the config of everything."""
    for module, path in SOURCES.items():
        if HEIGHT.get(room_of(module), 99) < HEIGHT["dpsad.api"]:
            names = {node.id for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Name)}
            assert "Config" not in names, module


@pytest.mark.parametrize(
    "line",
    [
        "from dpsad.methods.dpdm import train",
        "import dpsad.cli",
        "from dpsad import api",
        "def later():\n    from students.base import Student",
        "from dpsad.data.records import ImageSet",
        "from dpsad.api.launch import opened",
        "from dpsad.somewhere import new",
    ],
)
def test_an_arrow_that_points_back_is_found(line):
    sources = dict.fromkeys(SOURCES, "")
    assert len(wrong_arrows({**sources, "dpsad.diffusion.samplers": line})) == 1
    assert wrong_arrows({**sources, "dpsad.diffusion.samplers": "import torch\nfrom dpsad.errors import nearest"}) == []


def test_a_student_can_be_imported_before_anything_else():
    command = [sys.executable, "-c", "import students.few_step"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0
