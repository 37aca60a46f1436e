"""Points of the ROC, precision-recall, confusion and calibration plots of the test part, one table each."""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from stages.contracts.manifest import LABELS
from stages.contracts.metrics import PLOTS
from stages.contracts.operating import OperatingPoint, malignant_probability
from stages.evaluate.measures import bin_of

MOST_POINTS = 200
"""Of one curve: enough for the eye, and small enough for git."""


def plot_tables(
    predictions: pd.DataFrame, operating: OperatingPoint, class_names: list[str], bins: int
) -> dict[str, pd.DataFrame]:
    """The tables of PLOTS, of the test rows, source by source; values rounded to 6 places.

    predictions: columns of the predictions table, with label. Subtypes are collapsed to P(malignant); ROC and confusion
    have those of the eight classes too. A source whose test part has one label only has no ROC and no PR rows.
    """
    test = predictions[predictions["split"] == "test"]
    probability = test[[f"probability_{name}" for name in class_names]].to_numpy()
    test = test.assign(malignant=malignant_probability(probability, class_names), choice=probability.argmax(axis=1))
    test = test.assign(called=(test["malignant"] >= test["source"].map(operating.thresholds)).astype(int))
    subtypes = [] if list(class_names) == list(LABELS) else class_names

    def confusion(rows: pd.DataFrame) -> pd.DataFrame:
        two = confusion_counts(rows["label"].to_numpy(), rows["called"].to_numpy(), list(LABELS))
        if not subtypes:
            return two
        return pd.concat([confusion_counts(rows["target"].to_numpy(), rows["choice"].to_numpy(), class_names), two])

    def roc(rows: pd.DataFrame) -> pd.DataFrame:
        label, target = rows["label"].to_numpy(), rows["target"].to_numpy()
        found = {LABELS[1]: roc_points(label, rows["malignant"].to_numpy())}
        for place, name in enumerate(subtypes):
            found[name] = roc_points((target == place).astype(int), rows[f"probability_{name}"].to_numpy())
        return pd.concat([points.assign(curve=name) for name, points in found.items()], ignore_index=True)

    def calibration(rows: pd.DataFrame) -> pd.DataFrame:
        return calibration_bins(rows["label"].to_numpy(), rows["malignant"].to_numpy(), bins)

    def pr(rows: pd.DataFrame) -> pd.DataFrame:
        return pr_points(rows["label"].to_numpy(), rows["malignant"].to_numpy())

    makers = {"roc": roc, "pr": pr, "confusion": confusion, "calibration": calibration}
    return {name: _by_source(test, list(PLOTS[name]), make) for name, make in makers.items()}


def _by_source(test: pd.DataFrame, columns: list[str], make: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    parts: Iterator[pd.DataFrame] = (
        make(rows).assign(source=source) for source, rows in test.groupby("source", sort=True)
    )
    found = [part for part in parts if len(part)]
    return pd.concat(found, ignore_index=True)[columns].round(6) if found else pd.DataFrame(columns=columns)


def roc_points(label: np.ndarray, malignant: np.ndarray) -> pd.DataFrame:
    """Corners of the ROC curve from (0, 0) to (1, 1), thinned to MOST_POINTS; none if one label is missing.

    `threshold` is empty at (0, 0), which no probability reaches.
    """
    from sklearn.metrics import roc_curve

    if len(np.unique(label)) < 2:
        return pd.DataFrame()
    false_rate, sensitivity, threshold = roc_curve(label, malignant)
    keep = thinned(false_rate, sensitivity)
    threshold = np.where(np.isinf(threshold), np.nan, threshold)
    return pd.DataFrame(
        {"false_positive_rate": false_rate[keep], "sensitivity": sensitivity[keep], "threshold": threshold[keep]}
    )


def pr_points(label: np.ndarray, malignant: np.ndarray) -> pd.DataFrame:
    """Points of the precision-recall curve by rising recall, thinned to MOST_POINTS; none if one label is missing.

    The conventional end at recall 0 and precision 1 has no threshold.
    """
    from sklearn.metrics import precision_recall_curve

    if len(np.unique(label)) < 2:
        return pd.DataFrame()
    precision, recall, threshold = precision_recall_curve(label, malignant, drop_intermediate=True)
    precision, recall, threshold = precision[::-1], recall[::-1], np.append(threshold, np.nan)[::-1]
    keep = thinned(recall, precision)
    return pd.DataFrame({"recall": recall[keep], "precision": precision[keep], "threshold": threshold[keep]})


def thinned(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Indices of at most MOST_POINTS points of a polyline, both ends among them, evenly spaced along its length.

    Even spacing along the length keeps the steep start of a ROC curve, which even spacing in x would lose.
    """
    if len(x) <= MOST_POINTS:
        return np.arange(len(x))
    along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    wanted = np.linspace(0.0, along[-1], MOST_POINTS)
    return np.unique(np.clip(np.searchsorted(along, wanted, side="left"), 0, len(x) - 1))


def confusion_counts(target: np.ndarray, choice: np.ndarray, class_names: list[str]) -> pd.DataFrame:
    """A row for each pair of classes: actual, predicted, count, and share of the actual class (0 of none is empty).

    Counted here and not by DVC's own template, which wants a row an image: 40,000 lines in git for each recipe.
    """
    size = len(class_names)
    counts = np.bincount(target.astype(int) * size + choice.astype(int), minlength=size * size).reshape(size, size)
    total = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
    return pd.DataFrame(
        {
            "classes": size,
            "actual": np.repeat(class_names, size),
            "predicted": np.tile(class_names, size),
            "count": counts.ravel(),
            "share": share.ravel(),
        }
    )


def calibration_bins(label: np.ndarray, malignant: np.ndarray, bins: int) -> pd.DataFrame:
    """Mean P(malignant), share that is malignant and rows of each bin of probability that has any."""
    place = bin_of(malignant, bins)
    frame = pd.DataFrame({"bin": place, "predicted": malignant, "observed": label.astype(float)})
    grouped = frame.groupby("bin", sort=True)
    return grouped[["predicted", "observed"]].mean().assign(count=grouped.size()).reset_index(drop=True)
