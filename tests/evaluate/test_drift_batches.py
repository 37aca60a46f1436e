"""Drift of planted batches: the same laboratory, a darker stain, another prior, too few images."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from stages.contracts.errors import StageError
from stages.contracts.files import write_json
from stages.contracts.index import INDEX, write_index
from stages.contracts.manifest import LABELS, write_manifest
from stages.contracts.modelfolder import ModelRecord, Start, save_model
from stages.contracts.pixels import PixelWriter
from stages.contracts.sections import read_params
from stages.evaluate.__main__ import work as evaluate
from stages.evaluate.drift import work

PARTS = ("train", "train", "train", "val", "test")
IMAGES = 20
"""Of a case."""


def tissue(name: str, cases: int, seed: int, malignant: float = 0.4, dark: float = 1.0) -> tuple[pd.DataFrame, Any]:
    """Rows and pixels of cases whose stain varies from case to case; malignant patches have less red.

    dark: factor on the optical density.
    """
    rng = np.random.default_rng(seed)
    case = np.repeat(np.arange(cases), IMAGES)
    label = (rng.random(len(case)) < malignant).astype(int)
    density = dark * (np.array([0.25, 0.55, 0.3]) * rng.normal(1, 0.08, (cases, 3)))[case]
    density[:, 0] += 0.35 * label
    pixels = 255 * np.exp(-density[:, None, None] * rng.normal(1, 0.15, (len(case), 16, 16, 3)))
    pixels = pixels.clip(0, 255).astype(np.uint8)
    rows = pd.DataFrame({key: [None] * len(case) for key in INDEX.names})
    rows["image_id"] = [f"idc-{name}-{place:04}" for place in range(len(case))]
    rows["case_id"] = [f"idc-{name}-{one:02}" for one in case]
    rows = rows.assign(source="idc", label=label, width=50, height=50, fold=0, pixel_row=np.arange(len(case)))
    rows["sha256"] = rows["image_id"]
    rows["split"] = np.array(PARTS)[case % len(PARTS)]
    for place, channel in enumerate("rgb"):
        rows[f"mean_{channel}"] = pixels[..., place].mean(axis=(1, 2))
        rows[f"std_{channel}"] = pixels[..., place].std(axis=(1, 2))
    rows["blank"], rows["blur"] = rng.random(len(case)) * 0.1, 100 + 20 * rng.random(len(case))
    return rows, pixels


def lay_out(root: Path, rows: pd.DataFrame, pixels: np.ndarray) -> None:
    (root / "data/pixels").mkdir(parents=True)
    write_manifest(rows, {}, root / "data/manifest.parquet")
    with PixelWriter(root / "data/pixels/idc.npy", 16, 16) as writer:
        writer.append(pixels)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 cases, and a model that calls a patch by its red."""
    import timm
    import torch

    from stages.contracts import networks  # noqa: F401  registers baseline_cnn

    root = tmp_path_factory.mktemp("drift")
    shutil.copy(ROOT / "params.yaml", root)
    rows, pixels = tissue("old", 60, seed=0)
    lay_out(root, rows, pixels)
    write_index(rows, {"protocol": "case", "data": "demo"}, root / "data/index/case.parquet")
    record = ModelRecord(
        recipe="mobilenetv2", settings={"task": "binary"}, class_names=list(LABELS), sources=["idc"],
        missing_sources=[], data="demo", protocol="case", fold=0, image_size=16, view="squash", mean=[0.5] * 3,
        std=[0.25] * 3, index_sha256="0", params_sha256="0", start=Start(init="random"), parameters=1,
        trained_parameters=1, macs=1, train_images=1, val_images=1, epochs=1, best_epoch=1, best={}, threads=1,
    )  # fmt: skip
    torch.manual_seed(0)
    model = timm.create_model("baseline_cnn", num_classes=2)
    inputs = torch.from_numpy(pixels[:400]).permute(0, 3, 1, 2).float() / 255 * 4 - 2
    labels = torch.tensor(rows["label"][:400].tolist())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(25):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(inputs), labels).backward()
        optimizer.step()
    save_model(model, record, root / "models/mobilenetv2")
    with contextlib.chdir(root):
        evaluate(read_params(), "mobilenetv2")
    return root


def drift(workspace: Path, batch: Path) -> dict[str, Any]:
    with contextlib.chdir(workspace):
        work(read_params(), str(batch))
    return json.loads((workspace / ".stroma/drift.json").read_text())


def moved(report: dict[str, Any]) -> set[str]:
    return {one["feature"] for one in report["sources"]["idc"]["statistics"] if one["drifted"]}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_new_cases_of_the_same_laboratory_are_stable(workspace: Path, tmp_path: Path, seed: int) -> None:
    lay_out(tmp_path, *tissue("new", 8, seed=seed))
    report = drift(workspace, tmp_path)
    assert report["verdict"] == "stable", report["sources"]["idc"]["reason"]
    assert report["sources"]["idc"]["cases"] == 8


def test_a_darker_stain_is_drift(workspace: Path, tmp_path: Path) -> None:
    lay_out(tmp_path, *tissue("new", 8, seed=1, dark=1.5))
    report = drift(workspace, tmp_path)
    assert report["verdict"] == "drifted"
    assert {"mean_g", "eosin"} <= moved(report)
    assert "of mean_g" in report["sources"]["idc"]["reason"]


def test_another_prior_is_drift_by_what_the_model_says(workspace: Path, tmp_path: Path) -> None:
    lay_out(tmp_path, *tissue("new", 8, seed=1, malignant=0.95))
    report = drift(workspace, tmp_path)
    assert report["verdict"] == "drifted"
    assert {"malignant_probability", "called_malignant"} <= moved(report)


def test_other_sizes_are_drift(workspace: Path, tmp_path: Path) -> None:
    rows, pixels = tissue("new", 8, seed=1)
    lay_out(tmp_path, rows.assign(width=100), pixels)
    assert moved(drift(workspace, tmp_path)) == {"size"}


def test_unreadable_images_are_drift(workspace: Path, tmp_path: Path) -> None:
    rows, pixels = tissue("new", 8, seed=1)
    rows.loc[rows.index % 5 == 0, "decode_error"] = "cut short"
    lay_out(tmp_path, rows, pixels)
    report = drift(workspace, tmp_path)
    assert report["verdict"] == "drifted"
    assert "20.0% of the images are unreadable" in report["sources"]["idc"]["reason"]


def test_few_images_decide_nothing(workspace: Path, tmp_path: Path) -> None:
    lay_out(tmp_path, *tissue("new", 2, seed=1, dark=1.5))
    report = drift(workspace, tmp_path)
    assert report["verdict"] == "undecided"
    assert report["sources"]["idc"]["verdict"] == "too few images"
    assert "40 readable images, fewer than drift.least_images = 100" in report["sources"]["idc"]["reason"]


def test_images_that_were_ingested_before_are_no_news(workspace: Path, tmp_path: Path) -> None:
    shutil.copytree(workspace / "data", tmp_path / "data")
    report = drift(workspace, tmp_path)
    assert (report["verdict"], report["sources"]) == ("undecided", {})


def test_a_folder_without_a_manifest_is_told_what_to_run(workspace: Path, tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"manifest\.parquet is missing; run `python -m stages\.download`"):
        drift(workspace, tmp_path)


def test_the_champion_judges_the_prior_where_there_is_one(workspace: Path, tmp_path: Path) -> None:
    folder = workspace / ".stroma/champions/binary"
    write_json({"name": "champion-binary", "version": "v1.0.0", "recipe": "mobilenetv2"}, folder / "version.json")
    lay_out(tmp_path, *tissue("new", 8, seed=1))
    try:
        with pytest.raises(StageError, match="champions/binary lacks model/recipe"):
            drift(workspace, tmp_path)
    finally:
        shutil.rmtree(folder)
