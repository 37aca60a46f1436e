"""A small workspace as evaluate, index and validate leave it: recipes, one of them not run, and an ensemble."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.contracts.ensembles import EnsembleRecord
from stages.contracts.files import write_json
from stages.contracts.manifest import LABELS, SUBTYPES
from stages.contracts.metrics import write_csv
from stages.contracts.modelfolder import RECORD, ModelRecord, Skipped, Start, write_skipped
from stages.evaluate.averaging import Member, average, read_member
from stages.evaluate.ensemble import evaluated_mean, recorded
from stages.evaluate.evaluation import evaluated, not_run, write_evaluation
from stages.evaluate.params import EvaluateParams

RECIPES: dict[str, dict[str, Any]] = {
    "baseline_cnn": {
        "reproduces": "idc-recall", "arch": "baseline_cnn", "sources": ["idc"], "task": "binary", "protocol": "case",
        "fold": 0, "image_size": 50, "reported": {"accuracy": 0.52, "malignant_recall": 0.47},
    },
    "mobilenetv2": {
        "reproduces": "comparative-study", "arch": "mobilenetv2_100", "sources": ["idc", "breakhis"], "task": "binary",
        "protocol": "case", "fold": 0, "image_size": 64, "reported": {"val_accuracy": 0.8778, "params_m": 3.5},
    },
    "leaky": {
        "reproduces": None, "arch": "mobilenetv4_conv_small", "sources": ["idc"], "task": "binary", "protocol": "image",
        "fold": 0, "image_size": 64, "reported": {},
    },
    "mobilenetv3_subtype": {
        "reproduces": "mobilenetv3-transfer", "arch": "mobilenetv3_large_100", "sources": ["breakhis"],
        "task": "subtype", "protocol": "case", "fold": 0, "image_size": 96, "reported": {
            "binary_f1": 0.98, "false_positive_rate": 0.05, "subtype_auc_from": 0.97, "subtype_auc_to": 0.99,
        },
    },
    "no_source": {
        "reproduces": None, "arch": "resnet18", "sources": ["breakhis"], "task": "binary", "protocol": "case",
        "fold": 0, "image_size": 64, "reported": {},
    },
}  # fmt: skip
ENSEMBLES = {"ensemble": ["baseline_cnn", "mobilenetv2", "no_source"]}
"""Name -> members: of two data sets and of one, and a recipe that was not run."""


def draw_workspace(root: Path, images: int = 12, mark: str = "demo") -> None:
    """Write models/, reports/ and params.yaml below `root`, the working directory."""
    for place, (recipe, settings) in enumerate(RECIPES.items()):
        if recipe == "no_source":
            skipped = Skipped(recipe=recipe, reason="no image of breakhis", settings=settings)
            write_skipped(skipped, root / "models" / recipe)
            write_evaluation(not_run(skipped), recipe)
            curves = _curves(0)
        else:
            record = _record(recipe, settings, mark)
            write_json(record.model_dump(mode="json"), root / "models" / recipe / RECORD)
            rows, logits = _predicted(settings, images, seed=place)
            write_evaluation(evaluated(rows, logits, record, bins=10, specificity=0.9), recipe)
            curves = _curves(4)
        write_csv(curves, root / "reports/curves" / f"{recipe}.csv")
    for name, members in ENSEMBLES.items():
        draw_ensemble(name, members)
    _reports(root, mark)
    shutil.copy(Path(__file__).parents[2] / "params.yaml", root / "params.yaml")


def draw_ensemble(name: str, members: list[str]) -> None:
    """Average drawn recipes in the working directory, as the door does, but without an index table."""
    read = {member: read_member(member) for member in members}
    mean = average(name, [one for one in read.values() if isinstance(one, Member)])
    rows, _ = _predicted(RECIPES["mobilenetv2"], 12, seed=0)
    knobs = EvaluateParams(batch_size=8, calibration_bins=10, specificity=0.9)
    left_out = {member: one for member, one in read.items() if isinstance(one, str)}
    record = EnsembleRecord(members=members, left_out=left_out, reproduces="comparative-study")
    write_evaluation(recorded(evaluated_mean(mean, rows, knobs), record), name)


def _record(recipe: str, settings: dict[str, Any], mark: str) -> ModelRecord:
    return ModelRecord(
        recipe=recipe, settings=settings, class_names=list(LABELS if settings["task"] == "binary" else SUBTYPES),
        sources=settings["sources"], missing_sources=[], data=mark, protocol=settings["protocol"], fold=0,
        image_size=settings["image_size"], view="squash", mean=[0.5] * 3, std=[0.2] * 3, index_sha256="0",
        params_sha256="0", start=Start(init="random", note="no file of ImageNet weights; init_missing: random"),
        parameters=2_225_858, trained_parameters=2_225_858, macs=26_000_000, train_images=1120, val_images=240,
        epochs=4, best_epoch=3, best={}, threads=1,
    )  # fmt: skip


def _predicted(settings: dict[str, Any], images: int, seed: int) -> tuple[pd.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for split in ("val", "test"):
        for source in settings["sources"]:
            for case in range(6 if source == "idc" else 8):
                for image in range(images):
                    row = {"split": split, "source": source, "case_id": f"{source}-{split}-{case}"}
                    row["image_id"] = f"{row['case_id']}-{image:03}"
                    if source == "idc":
                        row |= {"label": image % 3 == 0, "subtype": None, "magnification": None}
                    else:
                        scale = (40, 100, 200, 400)[image % 4]
                        row |= {"label": case >= 4, "subtype": SUBTYPES[case], "magnification": scale}
                    rows.append(row)
    frame = pd.DataFrame(rows)
    frame = frame.astype({"label": "int64", "magnification": "Int16"})
    frame = frame.sort_values(["split", "source", "image_id"], ignore_index=True)
    if settings["task"] == "subtype":
        frame["target"] = frame["subtype"].map(SUBTYPES.index)
        logits = rng.normal(0, 1, (len(frame), 8)) + 1.6 * np.eye(8)[frame["target"]]
    else:
        frame["target"] = frame["label"]
        score = frame["label"].to_numpy() * 2.0 - 1 + rng.normal(0, 1.4, len(frame))
        logits = np.column_stack([-score, score])
    return frame, logits.astype(np.float32)


def _curves(epochs: int) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    return pd.DataFrame(
        {
            "epoch": epoch, "train_loss": 0.7 / epoch, "train_accuracy": 0.9 - 0.4 / epoch,
            "val_accuracy": 0.8 - 0.3 / epoch, "val_loss": 0.6 / epoch + 0.1 * (epoch == 4),
            "val_auroc": 1 - 0.3 / epoch, "val_balanced_accuracy": 0.9 - 0.3 / epoch, "learning_rate": 0.001,
        }
    )  # fmt: skip


def _reports(root: Path, mark: str) -> None:
    size = {part: {"images": images, "cases": cases} for part, images, cases in
            (("train", 1120, 28), ("val", 240, 6), ("test", 240, 6))}  # fmt: skip
    for protocol, shared in (("case", 0), ("image", 40)):
        sentence = f"{shared} of 40 cases shared between parts"
        sources = {source: {"disjointness": sentence, "counts": {"0": size}} for source in ("breakhis", "idc")}
        report = {
            "protocol": protocol, "disjointness": sentence, "leaks": shared > 0, "sources": sources,
            "policy": "Each case is in one part.", "rationale": "Images of one case share tissue.", "data": mark,
        }  # fmt: skip
        write_json(report, root / "reports/split" / f"{protocol}.json")
    source = {
        "kind": "drawn", "present": True, "file": "IDC_regular_ps50_idx5.zip", "licence": None, "reason": None,
        "sha256": "ab" * 32,
    }  # fmt: skip
    rule = {"suite": "idc", "rule": "pixels are unique", "severity": "warning", "unexpected": 2, "success": False}
    validation = {
        "data": mark, "success": True, "sources": {"idc": source, "breakhis": source}, "expectations": [rule],
        "rows": {
            "in": 3205, "validated": 3200, "quarantined": 5, "reasons": {"decode_error": 2, "label_conflict": 3},
        },
    }  # fmt: skip
    write_json(validation, root / "reports/validation.json")
