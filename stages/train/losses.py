"""What a training step makes small: the loss of each image, over the targets that mixing and smoothing leave."""

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy, log_softmax, logsigmoid

from stages.train.params import Recipe

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(logits (n, classes), targets int64 (n,) or shares float32 (n, classes)) -> the sum of the images' losses."""


def loss_of(recipe: Recipe, weight: torch.Tensor) -> Loss:
    """The recipe's loss, summed over the images of a micro-batch.

    weight: (classes,), of each class. Divide by the summed weights of the whole step's targets: that is torch's
    weighted mean, and it does not depend on how the step was cut into micro-batches and devices.

    binary_cross_entropy takes malignant minus benign logit for the one output of a sigmoid. sigmoid(b - a) is the
    softmax of (a, b), so it is cross-entropy written otherwise, and a model folder keeps one shape for all recipes.
    """
    smoothing = recipe.label_smoothing

    def plain(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if target.dim() == 1:
            return cross_entropy(logits, target, weight=weight, reduction="sum", label_smoothing=smoothing)
        return -(_smoothed(target, smoothing) * weight * log_softmax(logits, dim=1)).sum()

    def sigmoid(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        output = logits[:, 1] - logits[:, 0]
        shares = _smoothed(as_shares(target, 2), smoothing)
        return -(shares * weight * torch.stack([logsigmoid(-output), logsigmoid(output)], dim=1)).sum()

    def focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        shares = _smoothed(as_shares(target, logits.shape[1]), smoothing)
        log_probability = log_softmax(logits, dim=1)
        easy = (1 - log_probability.exp()) ** recipe.focal_gamma
        return -(shares * weight * easy * log_probability).sum()

    return {"cross_entropy": plain, "binary_cross_entropy": sigmoid, "focal": focal}[recipe.loss]


def as_shares(target: torch.Tensor, classes: int) -> torch.Tensor:
    """int64 (n,) -> float32 (n, classes), 1 at the target; shares are returned as they are."""
    return target if target.dim() == 2 else torch.nn.functional.one_hot(target, classes).to(torch.float32)


def _smoothed(shares: torch.Tensor, smoothing: float) -> torch.Tensor:
    return shares * (1 - smoothing) + smoothing / shares.shape[1]
