"""The figures of each recipe, as the original projects show them: curves, confusion matrices, ROC by subtype."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.compare import drawings
from stages.compare.collect import Result
from stages.compare.drawings import NAMES
from stages.compare.rows import of_two
from stages.contracts.files import appearing
from stages.contracts.manifest import LABELS
from stages.contracts.modelfolder import ModelRecord, Skipped

FIGURES = Path("reports/figures")
"""reports/figures/<recipe>/<name>.svg; a recipe that was not run has no folder."""


@dataclass(frozen=True)
class Figure:
    """An SVG, the name of its file, and the words for those who do not see it."""

    name: str
    svg: str
    spoken: str


def figures(result: Result, mark: str) -> list[Figure]:
    """The figures of one recipe or ensemble, those without a point left out. mark: of the data, in every title."""
    if isinstance(result.record, Skipped):
        return []
    parts = {
        plot: {source: part for source in result.record.sources if len(part := table[table["source"] == source])}
        for plot, table in result.plots.items()
    }
    of = f"of {result.recipe}, test ({mark})"
    found = [*_rocs(result, parts["roc"], mark, of)]
    for source, table in parts["confusion"].items():
        for classes, counts in table.groupby("classes", sort=True):
            many = "" if classes == len(LABELS) else f", {classes} classes"
            drawn = drawings.confusion(counts, f"Confusion, {NAMES[source]}{many} ({mark})")
            name = f"confusion_{source}{'_subtypes' if many else ''}"
            found.append(Figure(name, drawn, f"Confusion, {NAMES[source]}{many}, {of}"))
    if parts["pr"]:
        drawn = drawings.precision_recall(_named(parts["pr"]), f"Precision and recall ({mark})")
        found.append(Figure("precision_recall", drawn, f"Precision-recall curve {of}"))
    if parts["calibration"]:
        drawn = drawings.calibration(_named(parts["calibration"]), f"Calibration ({mark})")
        found.append(Figure("calibration", drawn, f"Calibration {of}"))
    if isinstance(result.record, ModelRecord) and len(result.curves):
        kept, spoken = result.record.best_epoch, f"by epoch of {result.recipe}, train and val ({mark})"
        drawn = drawings.accuracy(result.curves, kept, f"Accuracy ({mark})")
        found.append(Figure("accuracy", drawn, f"Accuracy {spoken}"))
        found.append(Figure("loss", drawings.loss(result.curves, kept, f"Loss ({mark})"), f"Loss {spoken}"))
    return found


def write_figures(drawn: Mapping[str, Sequence[Figure]], folder: Path = FIGURES) -> None:
    """Write the figures of every recipe below `folder`, all or none, as files that any browser opens."""
    with appearing(folder) as part:
        part.mkdir()
        for recipe, shown in drawn.items():
            for figure in shown:
                path = part / recipe / f"{figure.name}.svg"
                path.parent.mkdir(exist_ok=True)
                path.write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{figure.svg}', encoding="utf-8")


def malignant_roc(result: Result) -> dict[str, pd.DataFrame]:
    """Source -> the ROC curve of malignant against benign, of those that have one."""
    table = result.plots["roc"]
    table = table[table["curve"] == LABELS[1]]
    return {source: part for source in NAMES if len(part := table[table["source"] == source])}


def auroc(result: Result, source: str) -> float | None:
    """AUROC of malignant against benign on test, by image."""
    return result.score(source, of_two("auroc", result))


def _rocs(result: Result, parts: Mapping[str, pd.DataFrame], mark: str, of: str) -> list[Figure]:
    """Malignant against benign, then each subtype against the rest."""
    found = []
    if lines := {
        f"{auroc(result, source):.3f} {NAMES[source]}": part for source, part in malignant_roc(result).items()
    }:
        what = f"ROC ({mark})"
        found.append(Figure("roc", drawings.roc(lines, what), f"ROC curve {of}"))
    for source, table in parts.items():
        curves = table[table["curve"] != LABELS[1]]
        lines = {
            f"{result.score(source, f'{name}.auroc'):.3f} {name}": part
            for name, part in curves.groupby("curve", sort=False)
        }
        if lines:
            drawn = drawings.roc_beside(lines, f"Each subtype against the rest ({mark})")
            found.append(Figure(f"roc_subtypes_{source}", drawn, f"ROC curve of each subtype against the rest {of}"))
    return found


def _named(parts: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {NAMES[source]: part for source, part in parts.items()}
