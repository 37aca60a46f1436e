"""Gathers what the rooms before said of every recipe. Reads files, computes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.contracts.files import read_json
from stages.contracts.metrics import PLOTS, plot_path, read_csv, scores_path
from stages.contracts.modelfolder import ModelRecord, Skipped, read_record


@dataclass(frozen=True)
class Result:
    """One recipe: its record, scores, operating point, plot points and training curves."""

    recipe: str
    record: ModelRecord | Skipped
    scores: pd.DataFrame
    operating: dict[str, Any]
    plots: dict[str, pd.DataFrame]
    curves: pd.DataFrame

    @property
    def settings(self) -> dict[str, Any]:
        """The recipe as it stood in params.yaml."""
        return self.record.settings

    def score(
        self, source: str, metric: str, *, level: str = "image", split: str = "test", field: str = "value"
    ) -> float | None:
        """One field of the scores over all rows of a source; None where it is undefined or was not scored."""
        table = self.scores
        row = table[
            (table["split"] == split) & (table["source"] == source) & (table["stratum"] == "all")
            & (table["level"] == level) & (table["metric"] == metric)
        ]  # fmt: skip
        return None if row.empty or row[field].isna().all() else float(row[field].iloc[0])


@dataclass(frozen=True)
class Findings:
    """Everything that the comparison is made of. splits: protocol -> its report."""

    results: list[Result]
    splits: dict[str, dict[str, Any]]
    validation: dict[str, Any]

    @property
    def data(self) -> str:
        """The mark of the data: demo, real sample or full."""
        return str(self.validation["data"])


def collect(recipes: Sequence[str], root: Path = Path()) -> Findings:
    """What was said of `recipes`, in their order, below `root`. Raises StageError where a file is missing."""
    results = [_result(recipe, root) for recipe in recipes]
    protocols = sorted({str(result.settings["protocol"]) for result in results})
    reports = root / "reports"
    splits = {protocol: read_json(reports / "split" / f"{protocol}.json") for protocol in protocols}
    return Findings(results, splits, read_json(reports / "validation.json"))


def _result(recipe: str, root: Path) -> Result:
    reports = root / "reports"
    return Result(
        recipe=recipe,
        record=read_record(root / "models" / recipe),
        scores=read_csv(scores_path(recipe, reports)),
        operating=read_json(reports / "operating" / f"{recipe}.json"),
        plots={plot: read_csv(plot_path(plot, recipe, reports)) for plot in PLOTS},
        curves=read_csv(reports / "curves" / f"{recipe}.csv"),
    )
