"""The README tells the truth where a program can tell."""

import re
import subprocess
import sys
from pathlib import Path

import yaml
from conftest import ROOT

README = (ROOT / "README.md").read_text()


def test_the_picture_of_the_dag_is_the_one_that_dvc_draws() -> None:
    dvc = Path(sys.executable).with_name("dvc")
    drawn = subprocess.run(
        [dvc, "dag", "--mermaid", "--collapse-foreach-matrix"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert drawn.strip() in README


def test_every_stage_of_the_dag_is_explained() -> None:
    for stage in yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]:
        assert re.search(rf"^\| `{stage}[@`]", README, re.MULTILINE), stage


def test_every_make_command_named_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([a-z]+)", README)) <= targets | {"and"}


def test_the_recipe_shown_passes_the_check() -> None:
    from stages.contracts.sections import section
    from stages.train.params import SECTIONS

    shown = next(block for block in re.findall(r"```yaml\n(.*?)```", README, re.DOTALL) if "resnet18" in block)
    section(yaml.safe_load(shown), "recipes.resnet18", SECTIONS["recipes.*"])


def test_no_file_names_a_package_registry() -> None:
    hosts = re.compile(r"(pypi|pythonhosted|npmjs|debian)\.(org|com)")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if path.is_file() and path != Path(__file__):
            assert not hosts.search(path.read_text(errors="replace")), name
