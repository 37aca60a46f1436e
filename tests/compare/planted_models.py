"""A workspace with planted models: an index, predictions of a known quality, a champion, in the real formats."""

import contextlib
import copy
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from conftest import ROOT

from stages.compare.gate import work
from stages.contracts.champion import CHAMPIONS, WEIGHTS
from stages.contracts.files import sha256_of, write_json
from stages.contracts.index import INDEX, assignment, write_assignment, write_index
from stages.contracts.manifest import LABELS, SUBTYPES
from stages.contracts.modelfolder import RECORD, ModelRecord, Skipped, Start, write_skipped
from stages.contracts.operating import OperatingPoint, probabilities
from stages.contracts.predictions import write_predictions

SOURCES = {"binary": ["breakhis", "idc"], "subtype": ["breakhis"]}
CASES = {"idc": {"train": 4, "val": 10, "test": 24}, "breakhis": {"train": 8, "val": 16, "test": 16}}
IMAGES = 24
"""Of a case. A BreakHis case has one subtype, each in turn; an IDC case has both labels."""


@dataclass
class Model:
    """How good a planted model is. Two of the same seed make the same errors, but for `jitter`."""

    signal: float = 1.2
    """Of the logits, in units of their noise."""
    jitter: float = 0.0
    shift: float = 0.0
    """Added to the logit of every malignant class: more is called malignant at the same skill."""
    poor: dict[str, float] = field(default_factory=dict)
    """Subtype -> its own signal."""
    task: str = "binary"
    sources: list[str] | None = None


class Planted:
    """A folder in which the gate runs."""

    def __init__(self, root: Path, cases: dict[str, dict[str, int]] = CASES) -> None:
        self.root = root
        self.params: dict[str, Any] = copy.deepcopy(yaml.safe_load((ROOT / "params.yaml").read_text()))
        self.params["retrain"]["recipes"] = []
        self.index = _index(cases)
        write_index(self.index, {"protocol": "case", "data": "real sample"}, root / "data/index/case.parquet")
        self.index[["source"]].to_parquet(root / "data/validated.parquet")
        self.quarantine({"idc": 2, "breakhis": 2})
        self.validation()

    def quarantine(self, rows: dict[str, int]) -> None:
        sources = [source for source, count in rows.items() for _ in range(count)]
        pd.DataFrame({"source": sources}).to_parquet(self.root / "data/quarantine.parquet")

    def validation(self, broken: str | None = None, data: str = "real sample") -> None:
        rule = {"rule": broken or "labels are known", "severity": "critical", "success": broken is None}
        report = {"data": data, "success": broken is None, "expectations": [rule]}
        write_json(report, self.root / "reports/validation.json")

    def challenger(self, recipe: str, model: Model) -> None:
        folder = self.root / "models" / recipe
        self._model(folder, recipe, model)
        write_json(_operating(model).as_json(), self.root / f"reports/operating/{recipe}.json")
        self._predict(model, self.root / f"data/predictions/{recipe}.parquet", {})
        self.params["retrain"]["recipes"].append(recipe)

    def not_run(self, recipe: str, reason: str) -> None:
        write_skipped(Skipped(recipe=recipe, reason=reason, settings={"task": "binary"}), self.root / "models" / recipe)
        self.params["retrain"]["recipes"].append(recipe)

    def champion(self, model: Model, parts: dict[str, str] | None = None) -> None:
        folder = self.root / CHAMPIONS / model.task
        self._model(folder / "model", "old", model)
        write_json(_operating(model).as_json(), folder / "operating.json")
        write_assignment(assignment(self.index) | (parts or {}), folder / "assignment.csv")
        version = {"name": f"champion-{model.task}", "version": "v1.0.0", "recipe": "old"}
        write_json(version, folder / "version.json")
        made_from = {
            "model_sha256": sha256_of(folder / "model" / WEIGHTS),
            "index_sha256": sha256_of(self.root / "data/index/case.parquet"),
        }
        self._predict(model, folder / "predictions.parquet", made_from)

    def gate(self, **knobs: Any) -> dict[str, Any]:
        """Run the gate with some knobs turned; what it wrote."""
        params = copy.deepcopy(self.params)
        params["gate"] |= knobs
        with contextlib.chdir(self.root):
            work(params)
        return json.loads((self.root / "reports/gate.json").read_text())

    def _model(self, folder: Path, recipe: str, model: Model) -> None:
        sources = model.sources or SOURCES[model.task]
        record = ModelRecord(
            recipe=recipe, settings={"task": model.task}, class_names=_classes(model), sources=sources,
            missing_sources=[], data="real sample", protocol="case", fold=0, image_size=32, view="squash",
            mean=[0.5] * 3, std=[0.2] * 3, index_sha256="0", params_sha256="0", start=Start(init="random"),
            parameters=1, trained_parameters=1, macs=1, train_images=1, val_images=1, epochs=1, best_epoch=1, best={},
            threads=1,
        )  # fmt: skip
        write_json(record.model_dump(mode="json"), folder / RECORD)
        (folder / WEIGHTS).write_bytes(repr(model).encode() * 100)

    def _predict(self, model: Model, path: Path, metadata: dict[str, str]) -> None:
        sources = model.sources or SOURCES[model.task]
        rows = self.index[self.index["source"].isin(sources) & (self.index["split"] != "train")].copy()
        rng = np.random.default_rng(5)
        classes = _classes(model)
        target = rows["label"] if model.task == "binary" else rows["subtype"].map(SUBTYPES.index)
        rows["target"] = target.astype("int64")
        signal = rows["subtype"].map(model.poor).astype(float).fillna(model.signal).to_numpy()
        noise = rng.normal(0, 1, (len(rows), len(classes)))
        own = np.random.default_rng(int(model.jitter * 1000)).normal(0, model.jitter, noise.shape)
        malignant = np.array([name in ("malignant", "DC", "LC", "MC", "PC") for name in classes])
        logits = signal[:, None] * np.eye(len(classes))[rows["target"]] + noise + own + model.shift * malignant
        columns = pd.DataFrame(logits, index=rows.index).set_axis([f"logit_{name}" for name in classes], axis=1)
        chances = pd.DataFrame(probabilities(logits, 1.0), index=rows.index)
        chances = chances.set_axis([f"probability_{name}" for name in classes], axis=1)
        write_predictions(pd.concat([rows, columns, chances], axis=1), classes, metadata, path)


def _classes(model: Model) -> list[str]:
    return list(LABELS if model.task == "binary" else SUBTYPES)


def _operating(model: Model) -> OperatingPoint:
    sources = model.sources or SOURCES[model.task]
    # The locked threshold sits where the model's own logits are balanced.
    middle = float(1 / (1 + np.exp(-model.shift)))
    return OperatingPoint(1.0, dict.fromkeys(sources, middle), 0.9, dict.fromkeys(sources, 0.9))


def _index(cases: dict[str, dict[str, int]]) -> pd.DataFrame:
    found: list[dict[str, Any]] = []
    for source, parts in cases.items():
        for split, count in parts.items():
            for case in range(count):
                for image in range(IMAGES):
                    subtype = SUBTYPES[case % 8] if source == "breakhis" else None
                    found.append(
                        {
                            "image_id": f"{source}-{split}-{case:02}-{image:02}", "source": source, "split": split,
                            "case_id": f"{source}-{split}-{case:02}", "subtype": subtype, "fold": 0,
                            "label": int(case % 8 >= 4) if subtype else int(image % 3 == 0),
                        }
                    )  # fmt: skip
    return pd.DataFrame(found).reindex(columns=INDEX.names).astype({"label": "int64"})
