"""All that is said of one recipe: computed from logits in one place, written in another."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd

from stages.contracts.files import write_json
from stages.contracts.metrics import PLOTS, SCORES, plot_path, scores_path, write_csv
from stages.contracts.modelfolder import ModelRecord, Skipped
from stages.contracts.operating import OperatingPoint, probabilities
from stages.contracts.predictions import write_predictions
from stages.evaluate import curves, scores
from stages.evaluate.operating import fit_operating_point

REPORTS = Path("reports")


class Subject(Protocol):
    """What is evaluated: the record of a model, or an ensemble of several."""

    recipe: str
    class_names: list[str]
    sources: list[str]
    protocol: str
    fold: int
    data: str


@dataclass(frozen=True)
class Evaluation:
    """Everything that evaluate hands on."""

    predictions: pd.DataFrame
    class_names: list[str]
    metadata: dict[str, Any]
    operating: dict[str, Any]
    scores: pd.DataFrame
    headline: dict[str, Any]
    plots: dict[str, pd.DataFrame]


def evaluated(rows: pd.DataFrame, logits: np.ndarray, record: ModelRecord, bins: int, specificity: float) -> Evaluation:
    """Lock the operating point on val, then score.

    rows: val and test rows of the index with `target`. logits: float32 (n, classes), same order. Nothing of test
    reaches the operating point.
    """
    val = (rows["split"] == "val").to_numpy()
    operating = fit_operating_point(rows[val], logits[val], record.sources, record.class_names, specificity)
    probability = probabilities(logits, operating.temperature)
    return scored(rows, logits, probability, operating=operating, subject=record, bins=bins)


def scored(
    rows: pd.DataFrame,
    logits: np.ndarray,
    probability: np.ndarray,
    *,
    operating: OperatingPoint,
    subject: Subject,
    bins: int,
) -> Evaluation:
    """Score both parts with a locked operating point. probability: float32 (n, classes), order of the rows."""
    columns = ["image_id", "case_id", "source", "split", "target", "label", "subtype", "magnification"]
    predictions = rows[columns].astype({"target": "int64", "label": "int64"})
    for name, values in (("logit", logits), ("probability", probability)):
        predictions[[f"{name}_{one}" for one in subject.class_names]] = values
    named = {"recipe": subject.recipe, "protocol": subject.protocol, "fold": subject.fold}
    table = scores.score_table(predictions, operating, subject.class_names, bins, named)
    about = {**named, "data": subject.data}
    return Evaluation(
        predictions=predictions,
        class_names=subject.class_names,
        metadata={"schema_version": 1, **about},
        operating={**about, "class_names": subject.class_names, **operating.as_json()},
        scores=table,
        headline=scores.headline(table),
        plots=curves.plot_tables(predictions, operating, subject.class_names, bins),
    )


def not_run(skipped: Skipped) -> Evaluation:
    """The same for a recipe that was not trained: tables without rows, JSON without keys."""
    return Evaluation(
        predictions=pd.DataFrame(columns=["image_id", "case_id", "source", "split", "target"]),
        class_names=[],
        metadata={"schema_version": 1, "recipe": skipped.recipe, "not_run": skipped.reason},
        operating={},
        scores=pd.DataFrame(columns=list(SCORES)),
        headline={},
        plots={name: pd.DataFrame(columns=list(columns)) for name, columns in PLOTS.items()},
    )


def said(headline: dict[str, Any]) -> str:
    """A clause with the test AUROC of each source."""
    areas = {source: levels.get("image", {}).get("auroc") for source, levels in headline.get("test", {}).items()}
    known = [f"{source} {area:.4f}" for source, area in areas.items() if area is not None]
    return f"test AUROC {', '.join(known)}" if known else "test has no AUROC"


def write_evaluation(evaluation: Evaluation, recipe: str) -> None:
    """Write predictions, operating point, scores, headline and plots of `recipe`."""
    write_predictions(
        evaluation.predictions, evaluation.class_names, evaluation.metadata, Path(f"data/predictions/{recipe}.parquet")
    )
    write_json(evaluation.operating, REPORTS / "operating" / f"{recipe}.json")
    write_json(evaluation.headline, REPORTS / "metrics" / f"{recipe}.json")
    write_csv(evaluation.scores, scores_path(recipe))
    for plot, table in evaluation.plots.items():
        write_csv(table, plot_path(plot, recipe))
