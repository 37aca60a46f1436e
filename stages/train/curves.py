"""The training curves of a recipe: reports/curves/<recipe>.csv, one row an epoch."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.contracts.files import write_text

COLUMNS = (
    "epoch", "train_loss", "train_accuracy", "val_loss", "val_auroc", "val_balanced_accuracy", "val_accuracy",
    "learning_rate",
)  # fmt: skip


def curves_path(recipe: str) -> Path:
    """Where the curves of `recipe` lie."""
    return Path("reports/curves") / f"{recipe}.csv"


def write_curves(curves: Sequence[Mapping[str, float | None]], path: Path) -> None:
    """Write the rows, six significant places, an empty field where a figure is undefined; no rows: the header."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for epoch in curves:
        values = [epoch[column] for column in COLUMNS]
        table.writerow(["" if value is None else f"{value:.6g}" for value in values])
    write_text(text.getvalue(), path)
