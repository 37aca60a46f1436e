"""The operating point: one temperature and a threshold per source, chosen on val and never changed afterwards."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from stages.contracts.manifest import BENIGN_SUBTYPES, LABELS

TEMPERATURES = (0.25, 8.0)
"""Bounds of the search. A val part that the model separates without an error has no best temperature, its likelihood
grows for ever as the temperature falls; and probabilities rounded to 1 could no longer be ranked."""

UNFITTED_TEMPERATURE, UNFITTED_THRESHOLD = 1.0, 0.5


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


def fit_operating_point(
    val: pd.DataFrame, logits: np.ndarray, sources: Sequence[str], class_names: Sequence[str], specificity: float
) -> OperatingPoint:
    """Fit temperature and thresholds on the rows of val.

    val: target (class index), label (0 benign, 1 malignant) and source of each row. logits: (n, classes), same order.
    sources: those that get a threshold. Where val, or val of one source, lacks a label, what cannot be fitted keeps
    temperature 1 or threshold 0.5, and a note says so.
    """
    target, label = (val[name].to_numpy(dtype=np.int64) for name in ("target", "label"))
    source = val["source"].to_numpy(dtype=object)
    notes = []
    temperature = UNFITTED_TEMPERATURE
    if len(np.unique(label)) < 2:
        notes.append(f"temperature 1: val has {_lacking(label)}")
    else:
        temperature = fit_temperature(logits, target, source)
    malignant = malignant_probability(probabilities(logits, temperature), class_names)
    thresholds: dict[str, float] = {}
    specific: dict[str, float | None] = {}
    for name in sorted(sources):
        here = source == name
        if len(np.unique(label[here])) < 2:
            notes.append(f"threshold 0.5 for {name}: its val has {_lacking(label[here])}")
            thresholds[name], specific[name] = UNFITTED_THRESHOLD, None
        else:
            thresholds[name] = best_threshold(label[here], malignant[here])
            specific[name] = threshold_at_specificity(label[here], malignant[here], specificity)
    return OperatingPoint(temperature, thresholds, specificity, specific, notes)


def fit_temperature(logits: np.ndarray, target: np.ndarray, source: np.ndarray) -> float:
    """The temperature of lowest negative log-likelihood, to six significant digits.

    The mean is taken within each source first and over the sources then: IDC has 35 images for each of BreakHis and
    would alone decide. Guo et al., "On Calibration of Modern Neural Networks", ICML 2017.
    """
    from scipy.optimize import minimize_scalar

    rows = np.arange(len(target))
    _, place, counts = np.unique(source, return_inverse=True, return_counts=True)
    weight = 1.0 / counts[place]

    def loss(log_temperature: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_temperature)
        top = scaled.max(axis=1)
        log_sum = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((weight * (log_sum - scaled[rows, target])).sum())

    found = minimize_scalar(loss, bounds=np.log(TEMPERATURES), method="bounded", options={"xatol": 1e-6})
    return float(f"{np.exp(found.x):.6g}")


def best_threshold(label: np.ndarray, malignant: np.ndarray) -> float:
    """The threshold of highest balanced accuracy; of equal ones the nearest to 0.5, then the lower.

    Candidates are 0 and the midpoints between neighbouring probabilities. Both labels must be present.
    """
    threshold, sensitivity, specificity = _rates(label, malignant)
    balanced = (sensitivity + specificity) / 2
    # 1e-12: sums of the same counts taken in another order are the same balanced accuracy.
    best = threshold[balanced >= balanced.max() - 1e-12]
    return float(min(best, key=lambda value: (abs(value - 0.5), value)))


def threshold_at_specificity(label: np.ndarray, malignant: np.ndarray, specificity: float) -> float:
    """The lowest threshold at which at least `specificity` of the benign rows are called benign.

    It lies above every benign probability, and perhaps above 1, where only that is enough.
    """
    threshold, _, reached = _rates(label, malignant)
    enough = threshold[reached >= specificity - 1e-12]
    return float(enough.min()) if len(enough) else float(np.nextafter(malignant.max(), 2.0))


def _rates(label: np.ndarray, malignant: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thresholds in rising order, and the sensitivity and specificity that each gives."""
    values = np.unique(malignant)
    threshold = np.concatenate([[0.0], (values[1:] + values[:-1]) / 2])
    positive, negative = np.sort(malignant[label == 1]), np.sort(malignant[label == 0])
    sensitivity = 1 - np.searchsorted(positive, threshold, side="left") / len(positive)
    specificity = np.searchsorted(negative, threshold, side="left") / len(negative)
    return threshold, sensitivity, specificity


def _lacking(label: np.ndarray) -> str:
    """Which label a part with at most one of them has not got."""
    if len(label) == 0:
        return "no images"
    return f"no {LABELS[1 - int(label[0])]} image"
