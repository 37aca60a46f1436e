"""Which images an epoch shows, in which order, and how much each class weighs in the loss."""

from typing import Literal

import numpy as np

Sampler = Literal["natural", "weighted", "balanced"]


def generator(seed: int, epoch: int, step: int) -> np.random.Generator:
    """The generator of one moment of one training; it needs no state to be resumed. step -1 is the epoch's own."""
    return np.random.default_rng([seed, epoch, step + 1])


def chances(source: np.ndarray, target: np.ndarray, case: np.ndarray, sampler: Sampler) -> np.ndarray:
    """Chance of each image to be drawn: float64 (n,), sums to 1.

    source, target, case: int64 (n,). natural: all alike. weighted: inside each source every class is as likely as the
    others, so that the source does not predict the class, and a source is as likely as the root of its size: in
    proportion to their sizes IDC (97 % of the images) would drown BreakHis, in equal parts each BreakHis image would
    come some twenty times an epoch. For the same reason a case is, inside its class, as likely as the root of its size:
    what must be learned is what cases have in common, and a large one has most to say about itself. balanced: the same,
    but each class of each source is equally likely, whatever the sizes.
    """
    if sampler == "natural":
        return np.full(len(target), 1 / len(target))
    chance = np.zeros(len(target))
    for one in np.unique(source):
        held = source == one
        weight = 1.0 if sampler == "balanced" else np.sqrt(held.sum()) / len(np.unique(target[held]))
        for label in np.unique(target[held]):
            cell = held & (target == label)
            _, place, size = np.unique(case[cell], return_inverse=True, return_counts=True)
            share = 1 / np.sqrt(size[place])
            chance[cell] = weight * share / share.sum()
    return chance / chance.sum()


def epoch_batches(chance: np.ndarray, sampler: Sampler, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The positions of each batch of one epoch; as many draws as there are images.

    natural visits each image once, the others draw with replacement. The batches are of even size, `batch_size` or
    slightly more: a short last one would feed batch normalisation with the statistics of a handful of images.
    """
    count = len(chance)
    order = rng.permutation(count) if sampler == "natural" else rng.choice(count, size=count, p=chance)
    return np.array_split(order, steps_per_epoch(count, batch_size))


def steps_per_epoch(count: int, batch_size: int) -> int:
    """Number of batches of an epoch over `count` images."""
    return max(1, count // batch_size)


def class_weights(chance: np.ndarray, target: np.ndarray, classes: int) -> np.ndarray:
    """Weight of each class in the loss: float32 (classes,), mean 1 over the classes that occur, 0 for the others.

    The inverse of the frequency with which the *sampler delivers* the class, not of its frequency on disk: with the
    weighted sampler the two corrections of the original projects would otherwise multiply and overshoot.
    """
    share = np.bincount(target, weights=chance, minlength=classes)
    weight = np.divide(1, share, out=np.zeros(classes), where=share > 0)
    return (weight / weight[share > 0].mean()).astype(np.float32)
