"""The validation figures of an epoch, from logits. Few and quick: evaluate does the real scoring."""

import numpy as np


def auroc(positive: np.ndarray, score: np.ndarray) -> float | None:
    """Area under the ROC curve; ties count half. positive: bool (n,). None if one of the two classes is absent."""
    positives = int(positive.sum())
    negatives = len(positive) - positives
    if not positives or not negatives:
        return None
    _, place, count = np.unique(score, return_inverse=True, return_counts=True)
    rank = (np.cumsum(count) - (count - 1) / 2)[place]  # mean rank of each tie, from 1
    return float((rank[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def task_auroc(target: np.ndarray, probability: np.ndarray) -> float | None:
    """Of class 1 for two classes, else the mean over the classes present, each against the rest.

    target: int (n,). probability: (n, classes). None if fewer than two classes are present.
    """
    if probability.shape[1] == 2:
        return auroc(target == 1, probability[:, 1])
    return _mean([auroc(target == label, probability[:, label]) for label in np.unique(target)])


def balanced_accuracy(target: np.ndarray, probability: np.ndarray) -> float | None:
    """Mean recall over the classes present, at the most probable class. None if only one class is present."""
    chosen = probability.argmax(axis=1)
    present = np.unique(target)
    if len(present) < 2:
        return None
    return float(np.mean([(chosen[target == label] == label).mean() for label in present]))


def accuracy(target: np.ndarray, probability: np.ndarray) -> float:
    """Share of the images whose most probable class is the right one."""
    return float((probability.argmax(axis=1) == target).mean())


def figures(logits: np.ndarray, target: np.ndarray, source: np.ndarray, weight: np.ndarray) -> dict[str, float | None]:
    """val_loss, val_auroc, val_balanced_accuracy and val_accuracy of one epoch.

    logits: float (n, classes). target, source: int (n,). weight: (classes,), as in the training loss. All but the loss
    are means over the sources for which they are defined, weighted by the root of their images: in proportion to its
    size the larger source would drown the smaller, in equal parts the noise of a few images would choose the epoch.
    """
    logits = logits.astype(np.float64)
    logits -= logits.max(axis=1, keepdims=True)
    log_probability = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    probability = np.exp(log_probability)
    by_source = [source == one for one in np.unique(source)]
    roots = [float(np.sqrt(one.sum())) for one in by_source]
    weights = weight[target].astype(np.float64)
    losses = -log_probability[np.arange(len(target)), target]
    return {
        # A class without a training image weighs nothing; val may hold no other.
        "val_loss": float(np.average(losses, weights=weights if weights.any() else None)),
        "val_auroc": _mean([task_auroc(target[one], probability[one]) for one in by_source], roots),
        "val_balanced_accuracy": _mean([balanced_accuracy(target[one], probability[one]) for one in by_source], roots),
        "val_accuracy": _mean([accuracy(target[one], probability[one]) for one in by_source], roots),
    }


def _mean(values: list[float | None], weights: list[float] | None = None) -> float | None:
    """The weighted mean of the values that are known; None if none is."""
    pairs = zip(values, weights or [1.0] * len(values), strict=True)
    known = [(value, weight) for value, weight in pairs if value is not None]
    return sum(value * weight for value, weight in known) / sum(weight for _, weight in known) if known else None
