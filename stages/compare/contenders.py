"""What the gate holds against one another: a challenger of this run, and the champion scored on the same images."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.contracts.champion import WEIGHTS, Champion
from stages.contracts.files import read_json, sha256_of
from stages.contracts.index import index_path, read_index
from stages.contracts.manifest import BENIGN_SUBTYPES
from stages.contracts.modelfolder import ModelRecord, model_folder
from stages.contracts.operating import OperatingPoint, malignant_probability
from stages.contracts.tables import read_table


@dataclass(frozen=True)
class Contender:
    """A model with its predictions on val and test of the current index."""

    name: str
    record: ModelRecord
    operating: OperatingPoint
    predictions: pd.DataFrame
    """case_id, source, split, target and a probability a class, of the challenger `subtype` too; indexed and sorted by
    image_id."""
    parts: Mapping[str, frozenset[str]]
    """Case -> the parts in which it was for this model; a case that it never met is absent."""
    weights: Path
    latency_ms: float | None
    """Of one image, where it was measured."""

    @property
    def task(self) -> str:
        """binary or subtype."""
        return str(self.record.settings["task"])

    @cached_property
    def sha256(self) -> str:
        """Of the weights: equal ones are the same model."""
        return sha256_of(self.weights)

    @property
    def size_mb(self) -> float:
        """Size of the weights, 10^6 bytes."""
        return self.weights.stat().st_size / 1e6

    def has_met(self, case: str, parts: set[str]) -> bool:
        """Whether the case was in one of `parts` for this model."""
        return bool(self.parts.get(case, frozenset()) & parts)

    def images(self, chosen: pd.Index, source: str) -> pd.DataFrame:
        """Decisions on the images with these ids, all of one source, in their order."""
        return self._decided(self.predictions.loc[chosen], source)

    def units(self, chosen: pd.Index, source: str) -> pd.DataFrame:
        """Decisions by case, on the mean probability of these images; sorted by case and class.

        A BreakHis case may hold two subtypes, on different slides: each is a unit of its own.
        """
        means = self.predictions.loc[chosen].groupby(["case_id", "target"], sort=True)[self._columns].mean()
        return self._decided(means.reset_index(), source)

    @property
    def _columns(self) -> list[str]:
        return [f"probability_{name}" for name in self.record.class_names]

    def _decided(self, rows: pd.DataFrame, source: str) -> pd.DataFrame:
        """Add `label`, `malignant` (its probability) and `right`: called correctly at this model's own locked point."""
        probability = rows[self._columns].to_numpy()
        malignant = malignant_probability(probability, self.record.class_names)
        target = rows["target"].to_numpy()
        if self.task == "binary":
            label = target
            right = (malignant >= self.operating.thresholds[source]) == (label == 1)
        else:
            label = np.where(target < len(BENIGN_SUBTYPES), 0, 1)
            right = probability.argmax(axis=1) == target
        return rows.assign(label=label, malignant=malignant, right=right)


def challenger(recipe: str, record: ModelRecord) -> Contender:
    """The model that this run trained as `recipe`."""
    index, _ = read_index(index_path(record.protocol), record.fold)
    parts = index.groupby("case_id")["split"].agg(frozenset)
    predictions = _indexed(read_table(Path(f"data/predictions/{recipe}.parquet")))
    subtypes = index.drop_duplicates("image_id").set_index("image_id")["subtype"]
    return Contender(
        name=recipe,
        record=record,
        operating=OperatingPoint.read(Path(f"reports/operating/{recipe}.json")),
        predictions=predictions.assign(subtype=subtypes.reindex(predictions.index).astype(object)),
        parts=parts.to_dict(),
        weights=model_folder(recipe) / WEIGHTS,
        latency_ms=_latency(Path(f"reports/cost/{recipe}.json")),
    )


def reigning(champion: Champion) -> Contender:
    """The champion. Raises StageError where its predictions are missing, or are not of this model on this index."""
    return Contender(
        name=champion.name,
        record=champion.record,
        operating=champion.operating,
        predictions=_indexed(champion.read_predictions()),
        parts={case: frozenset({part}) for case, part in champion.parts.items()},
        weights=champion.folder / "model" / WEIGHTS,
        latency_ms=None,
    )


def _indexed(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.astype({"target": "int64"}).set_index("image_id").sort_index()


def _latency(path: Path) -> float | None:
    """`latency_ms` of a measured cost; the file is no output of the pipeline, and absent means not measured."""
    if not path.is_file():
        return None
    cost: dict[str, Any] = read_json(path)
    value = cost.get("latency_ms")
    return None if value is None else float(value)
