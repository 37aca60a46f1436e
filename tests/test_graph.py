"""dvc.yaml tells the whole truth: what a stage imports is what it depends on, and rooms keep to the house rules."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from stages.__main__ import ROOMS

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
DOORS = {room: f"{room}/__main__.py" for room in ROOMS} | {
    "ensemble": "evaluate/ensemble.py",
    "sheets": "train/sheets.py",
    "tune": "train/tune/__main__.py",
}
"""Stage -> the door that it enters, below stages/."""
HEAVY = {
    "torch": {"train", "tune", "evaluate", "contracts"},
    "optuna": {"tune"},
    "matplotlib": {"tune", "compare"},
    "great_expectations": {"validate"},
    "scipy": {"index", "evaluate", "compare"},
}


def imported(path: Path) -> set[str]:
    """Absolute module names that a file imports anywhere in it, `from a import b` as a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    return names


def module_file(name: str) -> Path | None:
    base = ROOT / Path(*name.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.exists():
            return path
    return None


def closure(door: str) -> set[Path]:
    """Every file of ours that a stage's door imports, directly or through others; empty package files left out.

    Not what the room's other doors import: a change of the gate must not compare everything again.
    """
    todo = [ROOT / "stages" / door]
    seen: set[Path] = set()
    while todo:
        path = todo.pop()
        if path in seen:
            continue
        seen.add(path)
        todo += [file for name in imported(path) if name.startswith("stages") and (file := module_file(name))]
    return {path.relative_to(ROOT) for path in seen if len(ast.parse(path.read_text()).body) > 1}


def code_deps(stage: str) -> set[Path]:
    """Files that the stage's deps under stages/ name, folders taken whole."""
    definition = STAGES[stage].get("do", STAGES[stage])
    named = [ROOT / dep for dep in definition["deps"] if dep.startswith("stages/")]
    files = {file for dep in named for file in (dep.rglob("*.py") if dep.is_dir() else [dep]) if file.suffix == ".py"}
    return {file.relative_to(ROOT) for file in files if len(ast.parse(file.read_text()).body) > 1}


@pytest.mark.parametrize("stage", DOORS)
def test_a_stage_depends_on_exactly_the_code_that_it_imports(stage: str) -> None:
    assert code_deps(stage) == closure(DOORS[stage])


def test_every_stage_enters_a_door_whose_imports_are_compared() -> None:
    assert set(DOORS) == set(STAGES)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_all_that_lies_beside_its_code(stage: str) -> None:
    folder = (ROOT / "stages" / DOORS[stage]).parent
    named = [ROOT / dep for dep in STAGES[stage].get("do", STAGES[stage])["deps"]]
    beside = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    assert all(path in named or any(dep in path.parents for dep in named) for path in beside)


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_no_other_room(room: str) -> None:
    strangers = {
        f"{path.name}: {name}"
        for path in (ROOT / "stages" / room).rglob("*.py")
        for name in imported(path)
        if name.startswith("stages.") and name.split(".")[1] not in (room, "contracts")
    }
    assert not strangers


def test_contracts_know_no_room() -> None:
    strangers = {
        f"{path.name}: {name}"
        for path in (ROOT / "stages" / "contracts").glob("*.py")
        for name in imported(path)
        if name.startswith("stages.") and name.split(".")[1] != "contracts"
    }
    assert not strangers


def test_nothing_below_flows_and_lineage_imports_prefect_or_dvc() -> None:
    for path in (ROOT / "stages").rglob("*.py"):
        assert not {name.split(".")[0] for name in imported(path)} & {"prefect", "dvc"}, path


@pytest.mark.parametrize("library", HEAVY)
def test_heavy_libraries_stay_in_the_rooms_that_need_them(library: str) -> None:
    for path in (ROOT / "stages").rglob("*.py"):
        if library in {name.split(".")[0] for name in imported(path)}:
            assert path.parent.name in HEAVY[library], path


def flow_modules() -> list[Path]:
    return [path for folder in ("flows", "lineage") for path in (ROOT / folder).rglob("*.py")]


def test_flows_and_lineage_import_neither_torch_nor_a_room() -> None:
    """They look at the rooms' letters, never into the rooms: a room is entered by `python -m stages.<room>` alone."""
    assert flow_modules()
    for path in flow_modules():
        assert not {name.split(".")[0] for name in imported(path)} & {"torch", "timm", "stages"}, path


def test_the_command_line_imports_prefect_and_dvc_only_where_a_command_needs_them() -> None:
    """`stroma --help` in a tenth of a second, and an environment that is set before Prefect reads it."""
    said = "import sys, flows.cli; print([name for name in ('prefect', 'dvc') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", said], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_file_says_on_its_first_line_what_it_is_for() -> None:
    for folder in ("stages", "flows", "tests", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            assert ast.get_docstring(ast.parse(path.read_text())), path
