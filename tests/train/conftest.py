"""A tiny workspace for the train room: an index, two pixel stores and a params.yaml, in the real formats."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from stages.contracts.index import write_index
from stages.contracts.manifest import MANIFEST, SUBTYPES
from stages.contracts.pixels import PixelWriter

ROOT = Path(__file__).parents[2]
SHAPES = {"idc": (12, 12), "breakhis": (10, 16)}

BASELINE = {
    "arch": "baseline_cnn",
    "sources": ["idc"],
    "task": "binary",
    "protocol": "case",
    "image_size": 8,
    "start": "weights/random",
    "values": "params.yaml",
    "optimizer": "adam",
    "lr": 0.005,
    "epochs": 2,
    "batch_size": 8,
    "augment": {"eightfold": True},
    "dropout": 0.2,
    "seed": 3,
}


def images_of(label: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Noise, darker where the label is 1: something a few steps can learn."""
    noise = rng.integers(90, 200, size=(len(label), *shape, 3))
    return (noise - 70 * label[:, None, None, None]).astype(np.uint8)


def rows_of(source: str, count: int, rng: np.random.Generator) -> pd.DataFrame:
    """`count` images of one source, four to a case, parted by case."""
    case = np.arange(count) // 4
    frame = pd.DataFrame({name: [None] * count for name in MANIFEST.names})
    frame["image_id"] = [f"{source}-{number:03d}" for number in range(count)]
    frame["case_id"] = [f"{source}-{one}" for one in case]
    frame["source"] = source
    frame["label"] = case % 2
    frame["subtype"] = None if source == "idc" else [SUBTYPES[4 * (one % 2) + one // 2 % 4] for one in case]
    frame["pixel_row"] = rng.permutation(count)
    frame["split"] = np.array(["train", "train", "train", "val", "train", "test"])[case // 2 % 6]
    frame["fold"] = 0
    return frame


class Workspace:
    """A folder in which `python -m stages.train` runs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write_params(self, recipes: dict, profile: dict | None = None, **more: object) -> None:
        params = {
            "profile": "demo",
            "threads": 1,
            "weights_dir": None,
            "tune_dir": None,
            "profiles": {"demo": {"train": profile or {"init_missing": "random", "epochs": None}, "tune": {}}},
            "recipes": recipes,
            **more,
        }
        (self.root / "params.yaml").write_text(yaml.safe_dump(params))

    def write_data(self, counts: dict[str, int], change: Callable[[pd.DataFrame], pd.DataFrame] | None = None) -> None:
        rng = np.random.default_rng(1)
        frames = []
        for source, shape in SHAPES.items():
            frame = rows_of(source, counts.get(source, 0), rng)
            frames.append(change(frame) if change and len(frame) else frame)
            by_row = frame.sort_values("pixel_row")["label"].to_numpy(dtype=int)
            path = self.root / "data" / "pixels" / f"{source}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            with PixelWriter(path, *shape) as writer:
                writer.append(images_of(by_row, shape, rng))
        rows = pd.concat([frame for frame in frames if len(frame)])
        metadata = {"protocol": "case", "data": "demo", "schema_version": 1}
        write_index(rows, metadata, self.root / "data" / "index" / "case.parquet")

    def command(self, recipe: str, door: str = "train") -> list[str]:
        return [sys.executable, "-m", f"stages.{door}", recipe]

    def environment(self, more: dict[str, str]) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", **more}

    def outputs(self, recipe: str) -> dict[str, bytes]:
        """Bytes of all that a training leaves, by name."""
        files = [*sorted((self.root / "models" / recipe).iterdir()), self.root / "reports/curves" / f"{recipe}.csv"]
        return {file.name: file.read_bytes() for file in files}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace; give it data and params."""
    return Workspace(tmp_path)
