"""What a retrain reads and edits of the shipped params.yaml and dvc.yaml, and what it takes for a change."""

import shutil
from pathlib import Path

import pytest
import yaml
from toy_repository import ROOT, Toy

from flows import assignment
from flows.errors import FlowError
from flows.inputs import inputs_of
from flows.registry import CHAMPIONS, TASKS, artifact_of
from flows.retrain import TABLE
from flows.settings import set_value
from stages.contracts import champion, index

EDITS = [("params.yaml", "index.frozen", TABLE)]
EDITS += [("dvc.yaml", f"artifacts.{artifact_of(task)}.path", "models/another") for task in TASKS]


@pytest.mark.parametrize(("file", "key", "value"), EDITS)
def test_an_edit_of_a_shipped_file_changes_that_value_and_no_other_byte(
    tmp_path: Path, file: str, key: str, value: str
) -> None:
    path = shutil.copyfile(ROOT / file, tmp_path / file)
    before = path.read_text()
    set_value(path, key, value)
    after = path.read_text()
    changed = [(old, new) for old, new in zip(before.splitlines(), after.splitlines(), strict=True) if old != new]
    assert len(changed) == 1
    found = yaml.safe_load(after)
    for name in key.split("."):
        found = found[name]
    assert found == value
    set_value(path, key, str(_value(before, key)))
    assert path.read_text() == before


def _value(text: str, key: str) -> object:
    found = yaml.safe_load(text)
    for name in key.split("."):
        found = found[name]
    return "null" if found is None else found


def test_an_assignment_table_is_the_one_that_the_rooms_read_and_write(tmp_path: Path) -> None:
    parts = {"idc-b": "test", "idc-a": "train"}
    index.write_assignment(parts, tmp_path / "room.csv")
    assignment.write(parts, tmp_path / "flow.csv")
    assert (tmp_path / "room.csv").read_bytes() == (tmp_path / "flow.csv").read_bytes()
    assert assignment.read(tmp_path / "flow.csv") == index.read_assignment(tmp_path / "flow.csv") == parts


@pytest.mark.parametrize("text", ["", "case,part\n", "case_id,part\na,train,more\n"])
def test_what_is_no_assignment_table_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(FlowError, match="is no assignment table"):
        assignment.read(tmp_path / "table.csv")


def test_a_key_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    with pytest.raises(FlowError, match=r"index\.forzen is missing"):
        set_value(path, "index.forzen", TABLE)


def test_each_task_has_an_artifact_that_names_a_recipe_of_it() -> None:
    params, pipeline = (yaml.safe_load((ROOT / name).read_text()) for name in ("params.yaml", "dvc.yaml"))
    assert set(pipeline["artifacts"]) == {artifact_of(task) for task in TASKS}
    for task in TASKS:
        folder, recipe = pipeline["artifacts"][artifact_of(task)]["path"].split("/")
        assert folder == "models"
        assert params["recipes"][recipe]["task"] == task


def test_flows_and_rooms_mean_the_same_champions() -> None:
    assert TASKS == champion.TASKS
    assert CHAMPIONS == champion.CHAMPIONS


def test_the_flows_import_no_torch() -> None:
    import subprocess
    import sys

    modules = "flows.retrain, flows.drift, flows.promote"
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize(
    ("path", "text", "is_input"),
    [
        ("stages/train/__main__.py", "# other code\n", True),
        ("splits/other.csv", "case_id,part\n", True),
        ("sources/idc.json", "{}\n", True),
        ("requirements.lock", "pinned==2\n", True),
        ("dvc.yaml", "# a stage more\n", True),
        ("README.md", "words\n", False),
        ("reports/metrics/small.json", "{}\n", False),
    ],
)
def test_data_code_and_environment_are_inputs_and_words_are_not(
    tmp_path: Path, path: str, text: str, is_input: bool
) -> None:
    toy = Toy.make(tmp_path)
    before = inputs_of(toy.path)
    assert inputs_of(toy.path) == before
    (toy.path / path).parent.mkdir(parents=True, exist_ok=True)
    with (toy.path / path).open("a") as file:
        file.write(text)
    assert (inputs_of(toy.path) != before) == is_input
