"""Measures of arrays of targets and probabilities. What is undefined has no value but a reason, and is never 0."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn import metrics

from stages.contracts.manifest import LABELS


@dataclass(frozen=True)
class Measure:
    """A value, or None and the reason for it."""

    value: float | None
    note: str = ""


Measures = dict[str, Measure]


def binary_measures(
    label: np.ndarray, malignant: np.ndarray, threshold: float, specific_threshold: float | None, bins: int
) -> Measures:
    """Measures of a benign/malignant decision at `threshold`; malignant is the positive class.

    label: (n,) 0 or 1, n >= 1. malignant: (n,) P(malignant) in [0, 1]. specific_threshold: locked threshold of the
    specificity asked for, None if val had none. bins: of the expected calibration error.
    """
    called = malignant >= threshold
    true_benign, false_malignant, missed, found = metrics.confusion_matrix(label, called, labels=[0, 1]).ravel()
    recall = _share(found, found + missed, LABELS[1])
    specificity = _share(true_benign, true_benign + false_malignant, LABELS[0])
    specific = (
        Measure(None, "val had only one label, so no threshold reaches the specificity")
        if specific_threshold is None
        else _share(int((malignant[label == 1] >= specific_threshold).sum()), found + missed, LABELS[1])
    )
    return {
        "accuracy": Measure(metrics.accuracy_score(label, called)),
        "balanced_accuracy": _mean([specificity, recall]),
        "precision": _share(found, found + false_malignant, "called malignant"),
        "recall": recall,
        "specificity": specificity,
        "false_negative_rate": _share(missed, found + missed, LABELS[1]),
        "false_positive_rate": _share(false_malignant, true_benign + false_malignant, LABELS[0]),
        "f1": _f1(found, found + missed, found + false_malignant, LABELS[1]),
        "benign_precision": _share(true_benign, true_benign + missed, "called benign"),
        "benign_f1": _f1(true_benign, true_benign + false_malignant, true_benign + missed, LABELS[0]),
        **_ranking(label, malignant),
        "sensitivity_at_specificity": specific,
        "brier": Measure(metrics.brier_score_loss(label, malignant, pos_label=1)),
        "nll": Measure(metrics.log_loss(label, np.column_stack([1 - malignant, malignant]), labels=[0, 1])),
        "ece": Measure(calibration_error(np.where(label == 1, 1.0, 0.0), malignant, bins)),
    }


def class_measures(target: np.ndarray, probability: np.ndarray, class_names: Sequence[str], bins: int) -> Measures:
    """Measures of a choice among many classes, the likeliest being chosen.

    target: (n,) class index, n >= 1. probability: (n, classes), rows sum to 1. Averages are taken over the classes
    that are present in `target`; `<class>.<measure>` sets one class against the rest.
    """
    chosen = probability.argmax(axis=1)
    singles: Measures = {}
    for place, name in enumerate(class_names):
        singles.update({f"{name}.{key}": value for key, value in _one_class(target, probability, place).items()})
    present = [class_names[place] for place in np.unique(target)]
    normal = probability.astype(np.float64) / probability.sum(axis=1, keepdims=True, dtype=np.float64)
    right = np.eye(len(class_names))[target]
    return {
        "accuracy": Measure(metrics.accuracy_score(target, chosen)),
        "balanced_accuracy": _mean([singles[f"{name}.recall"] for name in present]),
        "f1": _mean([singles[f"{name}.f1"] for name in present]),
        "auroc": _mean([singles[f"{name}.auroc"] for name in present]),
        "brier": Measure(float(((normal - right) ** 2).sum(axis=1).mean())),
        "nll": Measure(metrics.log_loss(target, normal, labels=range(len(class_names)))),
        "ece": Measure(calibration_error((chosen == target).astype(float), normal.max(axis=1), bins)),
        **singles,
    }


def calibration_error(right: np.ndarray, confidence: np.ndarray, bins: int) -> float:
    """Expected calibration error: the gap between confidence and the share right, over bins weighted by their rows.

    right: (n,) 0 or 1. confidence: (n,) in [0, 1].
    """
    place = bin_of(confidence, bins)
    gap = np.bincount(place, confidence - right, minlength=bins)
    return float(np.abs(gap).sum() / len(right))


def bin_of(probability: np.ndarray, bins: int) -> np.ndarray:
    """Which of `bins` equal bins of [0, 1] each probability falls in, (n,) int; 1 belongs to the last."""
    return np.minimum((probability * bins).astype(np.int64), bins - 1)


def _one_class(target: np.ndarray, probability: np.ndarray, place: int) -> Measures:
    """One class against the rest."""
    is_class, called = target == place, probability.argmax(axis=1) == place
    found, of_class, of_called = (int(value.sum()) for value in (is_class & called, is_class, called))
    return {
        "precision": _share(found, of_called, "called so"),
        "recall": _share(found, of_class, "of the class"),
        "f1": _f1(found, of_class, of_called, "of the class"),
        "auroc": _ranking(is_class.astype(int), probability[:, place].astype(np.float64))["auroc"],
    }


def _ranking(label: np.ndarray, score: np.ndarray) -> Measures:
    """Areas under the ROC and the precision-recall curve; undefined unless both labels are there."""
    if len(np.unique(label)) < 2:
        undefined = Measure(None, "only one class is present")
        return {"auroc": undefined, "auprc": undefined}
    return {
        "auroc": Measure(float(metrics.roc_auc_score(label, score))),
        "auprc": Measure(float(metrics.average_precision_score(label, score))),
    }


def _f1(found: int, positive: int, called: int, of: str) -> Measure:
    """Undefined like recall where nothing is positive: false alarms alone would make it a 0 that says nothing."""
    return _share(2 * found, positive + called, of) if positive else _share(0, 0, of)


def _share(part: int, whole: int, of: str) -> Measure:
    if whole == 0:
        return Measure(None, f"nothing {of}")
    return Measure(float(part / whole))


def _mean(measures: list[Measure]) -> Measure:
    """The mean, undefined where one of them is."""
    for measure in measures:
        if measure.value is None:
            return Measure(None, measure.note)
    return Measure(float(np.mean([measure.value for measure in measures])))
