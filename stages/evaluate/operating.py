"""The operating point: one temperature and a threshold per source, chosen on val and never changed afterwards."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from stages.contracts.manifest import LABELS
from stages.contracts.operating import (
    OperatingPoint,
    malignant_probability,
    probabilities,
    rates,
    threshold_at_specificity,
)

TEMPERATURES = (0.25, 8.0)
"""Bounds of the search. A val part that the model separates without an error has no best temperature, its likelihood
grows for ever as the temperature falls; and probabilities rounded to 1 could no longer be ranked."""

UNFITTED_TEMPERATURE, UNFITTED_THRESHOLD = 1.0, 0.5


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
    return lock_thresholds(val, malignant, sources, specificity, temperature=temperature, notes=notes)


def lock_thresholds(
    val: pd.DataFrame,
    malignant: np.ndarray,
    sources: Sequence[str],
    specificity: float,
    *,
    temperature: float,
    notes: Sequence[str] = (),
) -> OperatingPoint:
    """Fit the thresholds alone, on P(malignant) of the rows of val. temperature, notes: what was settled before."""
    label, source = val["label"].to_numpy(dtype=np.int64), val["source"].to_numpy(dtype=object)
    notes = list(notes)
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
    threshold, sensitivity, specificity = rates(label, malignant)
    balanced = (sensitivity + specificity) / 2
    # 1e-12: sums of the same counts taken in another order are the same balanced accuracy.
    best = threshold[balanced >= balanced.max() - 1e-12]
    return float(min(best, key=lambda value: (abs(value - 0.5), value)))


def _lacking(label: np.ndarray) -> str:
    """Which label a part with at most one of them has not got."""
    if len(label) == 0:
        return "no images"
    return f"no {LABELS[1 - int(label[0])]} image"
