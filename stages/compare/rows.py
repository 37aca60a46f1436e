"""The comparison table: one row a recipe, with the mark of its data and what weakens its numbers."""

from typing import Any

import pandas as pd

from stages.compare.collect import Findings, Result
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
    "false_negative_rate": ("test", "false_negative_rate"),
    "binary_f1": ("test", "f1"),
    "binary_precision": ("test", "precision"),
    "binary_recall": ("test", "recall"),
}
"""Key of a recipe's `reported` -> the part and the binary metric measured here that answers it."""


def comparison(findings: Findings) -> pd.DataFrame:
    """One row a recipe, in the order given. Metrics are of the test part, to 4 places; unknown cells are empty."""
    table = pd.DataFrame([_row(result, findings) for result in findings.results])
    return table.astype(dict.fromkeys(COUNTS, "Int64"))


def measured(result: Result, source: str, level: str, metric: str) -> float | None:
    """A metric of the test part; for subtypes sensitivity and specificity are those of benign against malignant."""
    if metric in ("sensitivity", "specificity"):
        metric = _binary({"sensitivity": "recall"}.get(metric, metric), result)
    value = result.score(source, metric, level=level)
    return None if value is None else round(value, 4)


def shared_cases(findings: Findings, result: Result) -> list[str]:
    """A clause for each source of the recipe whose split lets cases stand in more than one part; empty if none does."""
    sources = findings.splits[str(result.settings["protocol"])]["sources"]
    said = {source: sources[source].get("disjointness", "0") for source in trained_sources(result)}
    return [f"{source}: {sentence}" for source, sentence in said.items() if sentence.split()[0] != "0"]


def trained_sources(result: Result) -> list[str]:
    """The data sets that the recipe was trained on; those it asks for if it was not run."""
    return list(result.record.sources if isinstance(result.record, ModelRecord) else result.settings["sources"])


def status(result: Result) -> str:
    """`ok`, or why the recipe was not run."""
    return "ok" if isinstance(result.record, ModelRecord) else f"not run: {result.record.reason}"


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
        values = {
            source: result.score(source, _binary(metric, result), split=split) for source in trained_sources(result)
        }
        said = ", ".join(f"{source} {value:.4f}" for source, value in values.items() if value is not None)
        if isinstance(result.record, ModelRecord) and key in ("params_m", "macs_m"):
            size = result.record.parameters if key == "params_m" else result.record.macs
            said, split = f"{size / 1e6:.2f} at {result.record.image_size} px", "model"
        quantity = {"params_m": "parameters, M", "macs_m": "MACs, M"}.get(
            key, key.replace("_", " ").replace("f1", "F1")
        )
        rows.append({"quantity": quantity, "reported": f"{reported:g}", "measured": said, "part": split})
    return rows


def _binary(metric: str, result: Result) -> str:
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


def _model_cells(record: ModelRecord | Skipped) -> dict[str, Any]:
    """What only a trained model has; of a recipe that was not run, the sources that it lacks."""
    if isinstance(record, Skipped):
        cells = dict.fromkeys(["trained_on", "missing", "start", "start_note", *SIZES])
        return cells | {"missing": "+".join(record.settings["sources"])}
    return {
        "trained_on": "+".join(record.sources),
        "missing": "+".join(record.missing_sources),
        "start": record.start.init,
        "start_note": record.start.note,
        "image_size": record.image_size,
        "params_m": round(record.parameters / 1e6, 3),
        "macs_m": round(record.macs / 1e6, 2),
        "best_epoch": record.best_epoch,
        "epochs": record.epochs,
    }
