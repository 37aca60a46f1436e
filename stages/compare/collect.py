"""Gathers what the rooms before said of every recipe and ensemble. Reads files, computes next to nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.contracts.ensembles import KEY, EnsembleRecord, read_ensemble
from stages.contracts.files import read_json
from stages.contracts.metrics import PLOTS, plot_path, read_csv, scores_path
from stages.contracts.modelfolder import ModelRecord, Skipped, read_record


@dataclass(frozen=True)
class Ensemble:
    """Trained models whose calibrated probabilities are averaged. `settings` is what a recipe's would be."""

    record: EnsembleRecord
    members: list[ModelRecord]
    """Those that were averaged, at least one."""
    sources: list[str]
    """Data sets that all of them predict."""
    missing_sources: list[str]
    """Data sets that only some of them predict, or that a member asks for in vain."""
    settings: dict[str, Any]

    @property
    def class_names(self) -> list[str]:
        """Those of every member."""
        return self.members[0].class_names

    @property
    def parameters(self) -> int:
        """Of all members: each of them runs on each image."""
        return sum(one.parameters for one in self.members)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image, over all members."""
        return sum(one.macs for one in self.members)

    @property
    def notes(self) -> list[str]:
        """Which members are lacking, and why."""
        return [f"Without {name}, which was not run: {why}" for name, why in self.record.left_out.items()]


@dataclass(frozen=True)
class Result:
    """One recipe or ensemble: its record, scores, operating point, plot points and training curves."""

    recipe: str
    record: ModelRecord | Ensemble | Skipped
    scores: pd.DataFrame
    operating: dict[str, Any]
    plots: dict[str, pd.DataFrame]
    curves: pd.DataFrame

    @property
    def ran(self) -> bool:
        """Whether there is anything to show."""
        return not isinstance(self.record, Skipped)

    @property
    def is_ensemble(self) -> bool:
        """Whether it was averaged and not trained, or would have been."""
        return KEY in self.operating

    @property
    def searched(self) -> bool:
        """Whether a search chose some of its values."""
        return str(self.settings.get("values", "")).startswith("reports/tune/")

    @property
    def settings(self) -> dict[str, Any]:
        """The recipe as it was trained, or as the ensemble stood in params.yaml."""
        return self.record.settings

    def scores_of(self, source: str, *, level: str = "image") -> pd.DataFrame:
        """All scores of the test part of a source at one level: stratum, metric, value, low, high, ..."""
        table = self.scores
        return table[(table["split"] == "test") & (table["source"] == source) & (table["level"] == level)]

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


def collect(recipes: Sequence[str], ensembles: Sequence[str] = (), root: Path = Path()) -> Findings:
    """What was said of `recipes` and then of `ensembles`, in their order, below `root`.

    Raises StageError where a file is missing.
    """
    results = [_result(recipe, read_record(root / "models" / recipe), root) for recipe in recipes]
    results += [_result(name, _ensemble(name, root), root) for name in ensembles]
    protocols = sorted({str(result.settings["protocol"]) for result in results})
    reports = root / "reports"
    splits = {protocol: read_json(reports / "split" / f"{protocol}.json") for protocol in protocols}
    return Findings(results, splits, read_json(reports / "validation.json"))


def _ensemble(name: str, root: Path) -> Ensemble | Skipped:
    path = root / "reports" / "operating" / f"{name}.json"
    record = read_ensemble(path)
    named = {member: read_record(root / "models" / member) for member in record.members}
    first = next(iter(named.values())).settings
    asked = sorted({source for member in named.values() for source in member.settings["sources"]}, reverse=True)
    settings = {
        "reproduces": record.reproduces, "arch": record.said(), "task": first["task"], "protocol": first["protocol"],
        "fold": first["fold"], "sources": asked, "reported": {},
    }  # fmt: skip
    members = [member for member in named.values() if isinstance(member, ModelRecord)]
    if not members:
        return Skipped(recipe=name, reason=record.reason(), settings=settings)
    sources = [source for source in asked if source in read_json(path)["thresholds"]]
    return Ensemble(record, members, sources, [source for source in asked if source not in sources], settings)


def _result(recipe: str, record: ModelRecord | Ensemble | Skipped, root: Path) -> Result:
    reports = root / "reports"
    curves = reports / "curves" / f"{recipe}.csv"
    return Result(
        recipe=recipe,
        record=record,
        scores=read_csv(scores_path(recipe, reports)),
        operating=read_json(reports / "operating" / f"{recipe}.json"),
        plots={plot: read_csv(plot_path(plot, recipe, reports)) for plot in PLOTS},
        curves=read_csv(curves) if isinstance(record, ModelRecord) else pd.DataFrame(),
    )
