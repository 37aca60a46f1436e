"""The comparison table: one row a recipe or ensemble, with the mark of its data and what weakens its numbers."""

from typing import Any

import pandas as pd

from stages.compare.collect import Ensemble, Findings, Result
from stages.contracts.manifest import SUBTYPES
from stages.contracts.modelfolder import ModelRecord, Skipped

REPORTED_LABEL = "reported, split at random over images"
"""Stands beside every number of an original project: none of them splits by case."""

METRICS = ("balanced_accuracy", "auroc", "f1", "sensitivity", "specificity", "accuracy")
LEVELS = (("idc", "image"), ("breakhis", "image"), ("breakhis", "case"))
"""Source and level of the test metrics, a column for each of METRICS. An IDC case has no label of its own."""

SIZES = ("image_size", "params_m", "macs_m", "best_epoch", "epochs")
COUNTS = ("image_size", "best_epoch", "epochs", "idc_images", "idc_cases", "breakhis_images", "breakhis_cases")
"""Columns of whole numbers, empty where unknown."""

REPORTED = {
    "accuracy": ("test", "accuracy"),
    "val_accuracy": ("val", "accuracy"),
    "malignant_recall": ("test", "recall"),
    "malignant_precision": ("test", "precision"),
    "benign_recall": ("test", "specificity"),
    "malignant_f1": ("test", "f1"),
    "benign_precision": ("test", "benign_precision"),
    "benign_f1": ("test", "benign_f1"),
    "false_positive_rate": ("test", "false_positive_rate"),
    "false_negative_rate": ("test", "false_negative_rate"),
    "binary_f1": ("test", "f1"),
    "binary_precision": ("test", "precision"),
    "binary_recall": ("test", "recall"),
}
"""Key of a recipe's `reported` -> the part and the binary metric measured here that answers it.

Beside these: `params_m` and `macs_m`, of the model, and those of SUBTYPE_AUC. To another key there is no answer."""

SUBTYPE_AUC = {"subtype_auc_from": min, "subtype_auc_to": max}
"""The lowest and the highest AUROC of one subtype against the rest."""


def comparison(findings: Findings) -> pd.DataFrame:
    """One row a result, in the order given. Metrics are of the test part, to 4 places; unknown cells are empty."""
    table = pd.DataFrame([_row(result, findings) for result in findings.results])
    return table.astype(dict.fromkeys(COUNTS, "Int64"))


def measured(result: Result, source: str, level: str, metric: str) -> float | None:
    """A metric of the test part; for subtypes sensitivity and specificity are those of benign against malignant."""
    if metric in ("sensitivity", "specificity"):
        metric = of_two({"sensitivity": "recall"}.get(metric, metric), result)
    value = result.score(source, metric, level=level)
    return None if value is None else round(value, 4)


def shared_cases(findings: Findings, result: Result) -> list[str]:
    """A clause for each source of the recipe whose split lets cases stand in more than one part; empty if none does."""
    sources = findings.splits[str(result.settings["protocol"])]["sources"]
    said = {source: sources[source].get("disjointness", "0") for source in trained_sources(result)}
    return [f"{source}: {sentence}" for source, sentence in said.items() if sentence.split()[0] != "0"]


def trained_sources(result: Result) -> list[str]:
    """The data sets that the recipe was trained on; those it asks for if it was not run."""
    return list(result.settings["sources"] if isinstance(result.record, Skipped) else result.record.sources)


def status(result: Result) -> str:
    """`ok`, or why the recipe was not run."""
    return f"not run: {result.record.reason}" if isinstance(result.record, Skipped) else "ok"


def reported_text(result: Result) -> str:
    """What the original project reported, in one line, with the label that it needs; empty if nothing."""
    reported = result.settings.get("reported") or {}
    said = ", ".join(f"{key.replace('_', ' ')} {value:g}" for key, value in reported.items())
    return f"{said} ({REPORTED_LABEL})" if said else ""


def against_reported(result: Result) -> list[dict[str, Any]]:
    """Each reported number beside what was measured here: quantity, reported, measured (text), part."""
    rows = []
    for key, reported in (result.settings.get("reported") or {}).items():
        split, metric = REPORTED.get(key, ("", ""))
        sources = trained_sources(result)
        values = {source: result.score(source, of_two(metric, result), split=split) for source in sources}
        if key in SUBTYPE_AUC:
            split = "test"
            values = {source: SUBTYPE_AUC[key](_subtype_auc(result, source), default=None) for source in sources}
        said = ", ".join(f"{source} {value:.4f}" for source, value in values.items() if value is not None)
        if isinstance(result.record, ModelRecord) and key in ("params_m", "macs_m"):
            size = result.record.parameters if key == "params_m" else result.record.macs
            said, split = f"{size / 1e6:.2f} at {result.record.image_size} px", "model"
        quantity = {"params_m": "parameters, M", "macs_m": "MACs, M"}.get(
            key, key.replace("_", " ").replace("f1", "F1").replace("auc", "AUC")
        )
        rows.append({"quantity": quantity, "reported": f"{reported:g}", "measured": said, "part": split})
    return rows


def _subtype_auc(result: Result, source: str) -> list[float]:
    """AUROC of each subtype against the rest on test, of those for which it is defined."""
    found = [result.score(source, f"{name}.auroc") for name in SUBTYPES]
    return [value for value in found if value is not None]


def start_text(record: ModelRecord) -> str:
    """The weights that a training began with, and why not those asked for."""
    return record.start.init + (f" ({record.start.note})" if record.start.note else "")


def of_two(metric: str, result: Result) -> str:
    """The name under which the scores hold a metric of benign against malignant."""
    return f"binary.{metric}" if result.settings["task"] == "subtype" else metric


def _row(result: Result, findings: Findings) -> dict[str, Any]:
    settings = result.settings
    row: dict[str, Any] = {
        "recipe": result.recipe,
        "status": status(result),
        "data": findings.data,
        "reproduces": settings.get("reproduces"),
        "arch": settings["arch"],
        "task": settings["task"],
        **_model_cells(result.record),
        "protocol": settings["protocol"],
        "fold": settings["fold"],
        "leaks": "; ".join(shared_cases(findings, result)) or "no",
    }
    for source in ("idc", "breakhis"):
        for count in ("n_images", "n_cases"):
            row[f"{source}_{count[2:]}"] = result.score(source, "accuracy", field=count)
    for source, level in LEVELS:
        prefix = source if source == "idc" else f"{source}_{level}"
        row |= {f"{prefix}_{metric}": measured(result, source, level, metric) for metric in METRICS}
    return row | {"reported": reported_text(result)}


def _model_cells(record: ModelRecord | Ensemble | Skipped) -> dict[str, Any]:
    """What only a trained model has; of a recipe that was not run, the sources that it lacks.

    An ensemble is as large as its members together; what they do not share is empty.
    """
    if isinstance(record, Skipped):
        cells = dict.fromkeys(["trained_on", "missing", "start", "start_note", *SIZES])
        return cells | {"missing": "+".join(record.settings["sources"])}
    model = record if isinstance(record, ModelRecord) else None
    return {
        "trained_on": "+".join(record.sources),
        "missing": "+".join(record.missing_sources),
        "start": model and model.start.init,
        "start_note": model and model.start.note,
        "image_size": model and model.image_size,
        "params_m": round(record.parameters / 1e6, 3),
        "macs_m": round(record.macs / 1e6, 2),
        "best_epoch": model and model.best_epoch,
        "epochs": model and model.epochs,
    }
