"""The work of `python -m stages.evaluate RECIPE` on a real, untrained model over a tiny index and pixel stores."""

import contextlib
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from stages.contracts.errors import StageError
from stages.contracts.index import INDEX, write_index
from stages.contracts.manifest import LABELS
from stages.contracts.modelfolder import ModelRecord, Skipped, Start, save_model, write_skipped
from stages.contracts.pixels import PixelWriter
from stages.contracts.sections import read_params
from stages.evaluate.__main__ import work
from stages.evaluate.predict import predict_logits, scored_rows

IMAGES = 48


def index_rows() -> pd.DataFrame:
    """IDC: 12 cases over three parts, four images each; pixel rows in another order than the names."""
    rng = np.random.default_rng(0)
    case = np.arange(IMAGES) % 12
    rows = {name: [None] * IMAGES for name in INDEX.names}
    rows |= {
        "image_id": [f"idc-{place:03}" for place in range(IMAGES)],
        "case_id": [f"idc-{one}" for one in case],
        "source": ["idc"] * IMAGES,
        "label": (np.arange(IMAGES) // 12) % 2,
        "pixel_row": rng.permutation(IMAGES),
        "split": np.array(["train", "val", "test"])[case % 3],
        "fold": [0] * IMAGES,
    }
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import timm
    import torch

    from stages.contracts import networks  # noqa: F401  registers baseline_cnn

    folder = tmp_path_factory.mktemp("evaluate")
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / "data/pixels").mkdir(parents=True)
    with PixelWriter(folder / "data/pixels/idc.npy", 50, 50) as writer:
        writer.append(np.random.default_rng(1).integers(0, 256, (IMAGES, 50, 50, 3), dtype=np.uint8))
    write_index(index_rows(), {"protocol": "case", "data": "demo"}, folder / "data/index/case.parquet")
    torch.manual_seed(0)
    record = ModelRecord(
        recipe="tiny", settings={"task": "binary"}, class_names=list(LABELS), sources=["idc"],
        missing_sources=[], data="demo", protocol="case", fold=0, image_size=32, view="squash", mean=[0.5] * 3,
        std=[0.25] * 3, index_sha256="0", params_sha256="0", start=Start(init="random"), parameters=1,
        trained_parameters=1, macs=1, train_images=16, val_images=16, epochs=1, best_epoch=1, best={}, threads=1,
    )  # fmt: skip
    save_model(timm.create_model("baseline_cnn", num_classes=2), record, folder / "models/tiny")
    write_skipped(Skipped(recipe="none", reason="no image of breakhis", settings={}), folder / "models/none")
    return folder


def evaluate(workspace: Path, recipe: str) -> str:
    """What the door's work says, done here: importing torch anew for each call would take most of the time."""
    with contextlib.chdir(workspace):
        return work(read_params(), recipe)


def tracked(workspace: Path, recipe: str) -> dict[str, bytes]:
    files = [path for folder in ("data/predictions", "reports") for path in (workspace / folder).rglob(f"{recipe}.*")]
    return {str(path.relative_to(workspace)): path.read_bytes() for path in sorted(files)}


def test_a_recipe_is_scored_and_scored_again_to_the_same_bytes(workspace: Path) -> None:
    said = evaluate(workspace, "tiny")
    assert "32 images of val and test scored, split by case; test AUROC idc" in said
    first = tracked(workspace, "tiny")
    assert len(first) == 8
    evaluate(workspace, "tiny")
    assert tracked(workspace, "tiny") == first
    stored = pd.read_parquet(workspace / "data/predictions/tiny.parquet")
    assert set(stored["split"]) == {"val", "test"}
    assert np.allclose(stored[["probability_benign", "probability_malignant"]].sum(axis=1), 1)
    metrics = json.loads((workspace / "reports/metrics/tiny.json").read_text())
    assert set(metrics["test"]["idc"]["image"]) == {"auroc", "balanced_accuracy", "f1"}


def test_a_skipped_recipe_says_why_and_leaves_files_without_rows(workspace: Path) -> None:
    assert "not run: no image of breakhis" in evaluate(workspace, "none")
    assert json.loads((workspace / "reports/metrics/none.json").read_text()) == {}
    assert len(tracked(workspace, "none")) == 8


def test_a_recipe_that_was_never_trained_is_one_clear_error(workspace: Path) -> None:
    with pytest.raises(StageError, match=r"models/absent/recipe\.json is missing; `dvc repro` makes it"):
        evaluate(workspace, "absent")


def test_each_image_gets_the_logits_of_its_own_pixels_whatever_the_batch() -> None:
    import torch

    class Mean(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            middle = batch.mean(dim=(1, 2, 3))
            return torch.stack([-middle, middle], dim=1) * self.weight

    rng = np.random.default_rng(2)
    pixels = {"idc": rng.integers(0, 256, (IMAGES, 8, 8, 3), dtype=np.uint8)}
    rows = scored_rows(index_rows(), ["idc"], "binary")
    logits = predict_logits(Mean(), lambda batch: batch.float(), pixels, rows, 5)
    expected = pixels["idc"][rows["pixel_row"].to_numpy()].mean(axis=(1, 2, 3))
    assert logits[:, 1] == pytest.approx(expected, rel=1e-4)
    assert set(rows["split"]) == {"val", "test"}
