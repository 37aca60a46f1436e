"""The tidy table of scores: every measure by part, source, stratum and level (image or case)."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.contracts.manifest import LABELS, SUBTYPES
from stages.contracts.metrics import SCORES
from stages.contracts.operating import OperatingPoint, malignant_probability
from stages.evaluate.measures import Measure, Measures, binary_measures, class_measures

LABELLED_CASES = ("breakhis",)
"""Sources whose cases have one label each. An IDC case is a slide with benign and malignant patches side by side."""

HEADLINE = {
    ("idc", "image"): ("auroc", "balanced_accuracy", "f1"),
    ("breakhis", "image"): ("auroc", "balanced_accuracy"),
    ("breakhis", "case"): ("auroc", "balanced_accuracy"),
}
"""What `dvc metrics diff` shows: at most eight numbers a recipe."""


@dataclass(frozen=True)
class Level:
    """Measures of one level, and how many images and cases they rest on."""

    name: str
    measures: Measures
    n_images: int
    n_cases: int


def score_table(
    predictions: pd.DataFrame,
    operating: OperatingPoint,
    class_names: list[str],
    bins: int,
    named: Mapping[str, Any],
) -> pd.DataFrame:
    """Every measure, one row each, with the columns SCORES; sorted by split, source, stratum, level and metric.

    predictions: columns of the predictions table, with label, subtype and magnification of the index. named: recipe,
    protocol and fold. Values are rounded to 6 places.
    """
    found = []
    for (split, source), rows in predictions.groupby(["split", "source"], sort=True):
        for stratum, part in _strata(rows, class_names):
            for level in _levels(part, str(source), operating, class_names, bins):
                where = {"split": split, "source": source, "stratum": stratum, "level": level.name}
                counts = {"n_images": level.n_images, "n_cases": level.n_cases}
                for metric, measure in level.measures.items():
                    value = None if measure.value is None else round(measure.value, 6)
                    found.append({**named, **where, **counts, "metric": metric, "value": value, "note": measure.note})
    table = pd.DataFrame(found).reindex(columns=list(SCORES))
    return table.sort_values(["split", "source", "stratum", "level", "metric"], kind="stable", ignore_index=True)


def headline(scores: pd.DataFrame) -> dict[str, Any]:
    """What DVC compares, nested as test.<source>.<level>.<metric>, to 4 places; undefined ones absent."""
    nested: dict[str, Any] = {}
    whole = scores[(scores["split"] == "test") & (scores["stratum"] == "all") & scores["value"].notna()]
    for row in whole.itertuples():
        if row.metric in HEADLINE.get((row.source, row.level), ()):
            levels = nested.setdefault("test", {}).setdefault(row.source, {})
            levels.setdefault(row.level, {})[row.metric] = round(float(row.value), 4)
    return nested


def case_means(rows: pd.DataFrame, by: list[str], columns: list[str]) -> pd.DataFrame:
    """The mean of `columns` over the images of each unit named by the columns `by`, sorted by them."""
    return rows.groupby(by, sort=True)[columns].mean().reset_index()


def _strata(rows: pd.DataFrame, class_names: list[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """All rows, then those of each magnification and subtype (where the classes are not the subtypes themselves)."""
    yield "all", rows
    columns = ["magnification"] if list(class_names) == list(SUBTYPES) else ["magnification", "subtype"]
    for column in columns:
        for value in sorted(rows[column].dropna().unique()):
            yield f"{column}={value}", rows[rows[column] == value]


def _levels(
    rows: pd.DataFrame, source: str, operating: OperatingPoint, class_names: list[str], bins: int
) -> Iterator[Level]:
    """Image level and case level of one stratum of one source."""
    threshold, specific = operating.thresholds[source], operating.specificity_thresholds[source]
    columns = [f"probability_{name}" for name in class_names]
    binary = list(class_names) == list(LABELS)
    rows = rows.assign(malignant=malignant_probability(rows[columns].to_numpy(), class_names))
    counts = len(rows), rows["case_id"].nunique()

    def measured(units: pd.DataFrame) -> Measures:
        return binary_measures(units["label"].to_numpy(), units["malignant"].to_numpy(), threshold, specific, bins)

    def classified(units: pd.DataFrame) -> Measures:
        return class_measures(units["target"].to_numpy(), units[columns].to_numpy(), class_names, bins)

    if binary:
        rows = rows.assign(right=(rows["malignant"] >= threshold) == (rows["label"] == 1))
        yield Level("image", measured(rows), *counts)
    else:
        rows = rows.assign(right=rows[columns].to_numpy().argmax(axis=1) == rows["target"].to_numpy())
        yield Level("image", classified(rows) | _as_binary(measured(rows)), *counts)

    rate: Measures = {"recognition_rate": Measure(float(rows.groupby("case_id")["right"].mean().mean()))}
    if source not in LABELLED_CASES:
        yield Level("case", rate, *counts)
        yield _within_cases(rows, measured)
        return
    cases = measured(case_means(rows, ["case_id", "label"], ["malignant"]))
    if not binary:
        # A case may hold two subtypes, on different slides: each is a unit of its own.
        units = case_means(rows, ["case_id", "target"], columns)
        cases = classified(units) | _as_binary(cases)
    yield Level("case", cases | rate, *counts)


def _within_cases(rows: pd.DataFrame, measured: Any) -> Level:
    """Mean over the cases that hold both labels of what each shows alone: is tumour told from the tissue around it?"""
    both = rows[rows.groupby("case_id")["label"].transform("nunique") == 2]
    each = [measured(case) for _, case in both.groupby("case_id", sort=True)]
    kept = {}
    for metric in ("auroc", "balanced_accuracy"):
        values = [case[metric].value for case in each]
        kept[f"within_case_{metric}"] = (
            Measure(float(np.mean(values))) if values else Measure(None, "no case holds both labels")
        )
    return Level("case", kept, len(both), len(each))


def _as_binary(measures: Measures) -> Measures:
    """The same measures, marked as those of the subtypes collapsed to benign and malignant."""
    return {f"binary.{name}": measure for name, measure in measures.items()}
