"""What evaluate says of a recipe in small tables: its scores, and the points of its plots."""

from pathlib import Path

import pandas as pd

from stages.contracts.errors import StageError
from stages.contracts.files import appearing

SCORES = (
    "recipe", "protocol", "fold", "split", "source", "stratum", "level", "metric",
    "value", "low", "high", "n_images", "n_cases", "note",
)  # fmt: skip
"""Columns of reports/scores/<recipe>.csv, one row a measure, sorted by split, source, stratum, level and metric.

stratum: `all`, `magnification=40`, `subtype=DC`. level: `image` or `case`. metric: of eight classes the plain names are
means over the classes present, `DC.recall` is one class against the rest, `binary.recall` malignant against benign.
value: to 6 places, empty where undefined, and then `note` says why. low, high: the place of an interval over cases."""

PLOTS = {
    "roc": ("source", "curve", "false_positive_rate", "sensitivity", "threshold"),
    "pr": ("source", "recall", "precision", "threshold"),
    "confusion": ("source", "classes", "actual", "predicted", "count", "share"),
    "calibration": ("source", "predicted", "observed", "count"),
}
"""Plot -> columns of reports/plots/<plot>/<recipe>.csv, of the test part; only the header if it was not run.

curve: `malignant` against benign, and of eight classes each subtype against the rest. classes: 2, and of eight classes
8 too; the two are then called by P(malignant) and the locked threshold, as in the scores `binary.*`."""


def scores_path(recipe: str, reports: Path = Path("reports")) -> Path:
    """Where the scores of `recipe` lie."""
    return reports / "scores" / f"{recipe}.csv"


def plot_path(plot: str, recipe: str, reports: Path = Path("reports")) -> Path:
    """Where the points of one of PLOTS lie."""
    return reports / "plots" / plot / f"{recipe}.csv"


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV, atomically; undefined values are empty cells."""
    with appearing(path) as part:
        table.to_csv(part, index=False, lineterminator="\n")


def read_csv(path: Path) -> pd.DataFrame:
    """Read a table that `write_csv` wrote. Raises StageError where it is missing."""
    try:
        return pd.read_csv(path)
    except FileNotFoundError:
        raise StageError(f"{path} is missing; `dvc repro` makes it") from None
