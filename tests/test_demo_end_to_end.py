"""The demo pipeline as a user runs it: a fresh clone, `dvc repro`, and much of it once more."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import ROOT

pytestmark = pytest.mark.slow

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if name != "STROMA_WEIGHTS"},
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}


def run(clone: Path, *command: str, status: int = 0) -> str:
    """What a command printed in the clone; fails the test with its output if it did not end as expected."""
    done = subprocess.run(command, cwd=clone, env=ENVIRONMENT, capture_output=True, text=True, timeout=1500)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of its own with the files of this one as they are now, and the demo pipeline run in it."""
    folder = tmp_path_factory.mktemp("clone")
    listed = run(ROOT, "git", "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "clone")
    run(folder, "dvc", "repro")
    return folder


def test_the_comparison_has_one_row_for_each_recipe_and_ensemble_and_says_demo(clone: Path) -> None:
    table = pd.read_csv(clone / "reports/comparison.csv")
    params = yaml.safe_load((clone / "params.yaml").read_text())
    assert table.columns[0] == "recipe"
    assert list(table["recipe"]) == [*params["recipes"], *params["ensembles"]]
    assert all((clone / f"reports/cards/{name}.md").is_file() for name in table["recipe"])
    assert set(table["data"]) == {"demo"}
    assert "demo" in (clone / "reports/comparison.html").read_text()
    assert "mobilenetv3_subtype" in run(clone, "python", "-m", "stages.compare.table")


def test_models_learn_something_from_drawn_tissue(clone: Path) -> None:
    metrics = json.loads((clone / "reports/metrics/mobilenetv4.json").read_text())
    assert 0.55 < metrics["test"]["idc"]["image"]["auroc"] < 0.999


def test_a_second_run_says_that_nothing_changed(clone: Path) -> None:
    assert "Data and pipelines are up to date." in run(clone, "dvc", "repro")


def test_rows_in_are_validated_or_in_quarantine_with_a_reason(clone: Path) -> None:
    manifest, validated, quarantine = (
        pq.read_table(clone / f"data/{name}.parquet").to_pandas() for name in ("manifest", "validated", "quarantine")
    )
    assert sorted(manifest["image_id"]) == sorted([*validated["image_id"], *quarantine["image_id"]])
    assert quarantine["reason"].str.len().min() > 0
    kinds = set(quarantine["reason"].str.split(":").str[0])
    assert {"decode_error", "label_conflict"} <= kinds, kinds


def test_no_case_is_in_two_parts(clone: Path) -> None:
    index = pq.read_table(clone / "data/index/case.parquet").to_pandas()
    assert index.groupby("case_id")["split"].nunique().max() == 1
    assert set(index["split"]) == {"train", "val", "test"}


def test_dvc_shows_metrics_plots_and_dag(clone: Path) -> None:
    assert "test.idc.image.auroc" in run(clone, "dvc", "metrics", "show")
    assert "index.html" in run(clone, "dvc", "plots", "show")
    assert "train@mobilenetv2" in run(clone, "dvc", "dag", "--mermaid")


def test_editing_one_recipe_reruns_that_recipe_alone(clone: Path) -> None:
    params = clone / "params.yaml"
    before = params.read_text()
    edited = yaml.safe_load(before)
    edited["recipes"]["mobilenetv4"]["lr"] *= 2
    params.write_text(yaml.safe_dump(edited, sort_keys=False))
    changed = set(json.loads(run(clone, "dvc", "status", "--json")))
    edited["recipes"]["efficientnet_b2"]["batch_size"] = 32
    params.write_text(yaml.safe_dump(edited, sort_keys=False))
    changed_too = set(json.loads(run(clone, "dvc", "status", "--json"))) - changed
    params.write_text(before)
    trained = {name for name in changed if name.startswith("train@")}
    assert trained == {"train@mobilenetv4"}
    assert changed_too == {"tune@efficientnet_b2"}, "its training follows when the search is done"
    assert not changed & {"merge", "validate", "index@case", "download@idc"}


def test_what_a_search_chose_is_what_was_trained(clone: Path) -> None:
    for recipe, searched in (("efficientnet_b2", ("lr", "mixup")), ("mobilenetv3_subtype", ("freeze", "lr", "decay"))):
        chosen = json.loads((clone / f"reports/tune/{recipe}.json").read_text())["recipes"][recipe]
        trained = json.loads((clone / f"models/{recipe}/recipe.json").read_text())["settings"]
        assert {key: trained[key] for key in searched} == {key: chosen[key] for key in searched}
        assert list((clone / f"reports/tune/{recipe}").glob("*.svg"))


def test_a_forced_second_run_leaves_an_identical_lock(clone: Path) -> None:
    """The data from the first byte on, a network of each kind, and what is computed from all of them."""
    before = (clone / "dvc.lock").read_bytes()
    run(clone, "dvc", "repro", "--force", "evaluate@mobilenetv2_finetuned", "evaluate@cnn_augmented")
    run(clone, "dvc", "repro", "--force", "--single-item", "compare")
    assert (clone / "dvc.lock").read_bytes() == before
    assert run(clone, "git", "status", "--porcelain", "--", "stages", "params.yaml", "dvc.yaml") == ""
