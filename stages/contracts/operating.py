"""The operating point: what turns a model's logits into decisions. Evaluate fits it on val; others only apply it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self

import numpy as np

from stages.contracts.errors import StageError
from stages.contracts.files import read_json
from stages.contracts.manifest import BENIGN_SUBTYPES, LABELS


@dataclass(frozen=True)
class OperatingPoint:
    """What turns logits into decisions. A decision is malignant where P(malignant) >= the threshold of its source."""

    temperature: float
    """Logits are divided by it before the softmax."""
    thresholds: dict[str, float]
    """Source -> threshold of highest balanced accuracy on val."""
    specificity: float
    specificity_thresholds: dict[str, float | None]
    """Source -> lowest threshold that reaches `specificity` on val; null where val has no benign image."""
    notes: list[str] = field(default_factory=list)
    """What could not be fitted, and why."""

    def as_json(self) -> dict[str, Any]:
        """The values as plain JSON types."""
        return {"fitted_on": "val", **asdict(self)}

    @classmethod
    def read(cls, path: Path) -> Self:
        """The point that evaluate wrote to reports/operating/<recipe>.json, or that was kept with a champion."""
        found = read_json(path)
        names = [one.name for one in fields(cls)]
        missing = [name for name in names if name not in found]
        if missing:
            raise StageError(f"{path} holds no operating point: {', '.join(missing)} missing; `dvc repro` makes it")
        return cls(**{name: found[name] for name in names})


def probabilities(logits: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax of logits / temperature: float32 (n, classes), as the predictions table holds them."""
    scaled = logits.astype(np.float64) / temperature
    raised = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return (raised / raised.sum(axis=1, keepdims=True)).astype(np.float32)


def malignant_probability(probability: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
    """P(malignant) of each row, float64 (n,): the class itself, or the sum over the malignant subtypes.

    At most 1, though a float32 row may sum to a little more.
    """
    malignant = [place for place, name in enumerate(class_names) if name not in (LABELS[0], *BENIGN_SUBTYPES)]
    return np.minimum(probability[:, malignant].astype(np.float64).sum(axis=1), 1.0)


def threshold_at_specificity(label: np.ndarray, malignant: np.ndarray, specificity: float) -> float:
    """The lowest threshold at which at least `specificity` of the benign rows are called benign.

    It lies above every benign probability, and perhaps above 1, where only that is enough.
    """
    threshold, _, reached = rates(label, malignant)
    enough = threshold[reached >= specificity - 1e-12]
    return float(enough.min()) if len(enough) else float(np.nextafter(malignant.max(), 2.0))


def rates(label: np.ndarray, malignant: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds in rising order, and the sensitivity and specificity that each gives."""
    values = np.unique(malignant)
    threshold = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2])
    positive, negative = np.sort(malignant[label == 1]), np.sort(malignant[label == 0])
    sensitivity = 1 - np.searchsorted(positive, threshold, side="left") / len(positive)
    specificity = np.searchsorted(negative, threshold, side="left") / len(negative)
    return threshold, sensitivity, specificity
