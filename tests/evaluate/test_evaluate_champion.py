"""Scoring a champion again: a tiny real model, trained on one index, scored on the index as it is now."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_evaluate_door import evaluate, index_rows, workspace  # noqa: F401  the fixture of a tiny real model

from stages.contracts.errors import StageError
from stages.contracts.files import write_json
from stages.contracts.index import assignment, write_assignment, write_index
from stages.contracts.sections import read_params
from stages.evaluate.champion import work


@pytest.fixture
def crowned(workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """A workspace whose model `tiny` is champion."""
    evaluate(workspace, "tiny")
    root = tmp_path / "workspace"
    shutil.copytree(workspace, root)
    folder = root / ".stroma/champions/binary"
    shutil.copytree(root / "models/tiny", folder / "model")
    operating = json.loads((root / "reports/operating/tiny.json").read_text())
    write_json(operating | {"temperature": 2.0}, folder / "operating.json")
    write_assignment(assignment(index_rows()), folder / "assignment.csv")
    write_json({"name": "champion-binary", "version": "v1.2.0", "recipe": "tiny"}, folder / "version.json")
    monkeypatch.chdir(root)
    return root


def test_a_champion_is_scored_with_its_own_temperature(crowned: Path) -> None:
    assert work(read_params(), "binary") == (
        "champion-binary v1.2.0 scored on 32 images of val and test, split by case"
    )
    found = pd.read_parquet(crowned / ".stroma/champions/binary/predictions.parquet")
    own = pd.read_parquet(crowned / "data/predictions/tiny.parquet")
    assert found["logit_malignant"].tolist() == own["logit_malignant"].tolist()
    expected = 1 / (1 + np.exp((found["logit_benign"] - found["logit_malignant"]) / 2.0))
    assert found["probability_malignant"].to_numpy() == pytest.approx(expected, abs=1e-6)


def test_a_champion_is_scored_on_the_index_as_it_is_now(crowned: Path) -> None:
    rows = index_rows()
    rows.loc[rows["case_id"] == "idc-0", "split"] = "test"
    write_index(rows, {"protocol": "case", "data": "demo"}, crowned / "data/index/case.parquet")
    work(read_params(), "binary")
    found = pd.read_parquet(crowned / ".stroma/champions/binary/predictions.parquet")
    assert "idc-0" in set(found["case_id"])
    assert len(found) == 36


def test_scoring_again_gives_the_same_bytes(crowned: Path) -> None:
    path = crowned / ".stroma/champions/binary/predictions.parquet"
    work(read_params(), "binary")
    first = path.read_bytes()
    work(read_params(), "binary")
    assert path.read_bytes() == first


@pytest.mark.parametrize(
    ("gone", "said"),
    [
        ("model/model.safetensors", r"champions/binary lacks model/model\.safetensors; `stroma retrain` lays"),
        ("operating.json", r"lacks operating\.json"),
        ("assignment.csv", r"lacks assignment\.csv"),
        ("version.json", r"lacks version\.json"),
    ],
)
def test_what_is_not_laid_out_is_named(crowned: Path, gone: str, said: str) -> None:
    (crowned / ".stroma/champions/binary" / gone).unlink()
    with pytest.raises(StageError, match=said):
        work(read_params(), "binary")


def test_no_champion_and_no_such_task_are_told_apart(crowned: Path) -> None:
    with pytest.raises(StageError, match="champions/subtype is not there: no champion was laid out"):
        work(read_params(), "subtype")
    with pytest.raises(StageError, match="there is no task 'binarry'; did you mean 'binary'"):
        work(read_params(), "binarry")
