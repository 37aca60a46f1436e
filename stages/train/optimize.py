"""How weights move: the optimizer, its rate at each step, and the moving average of the weights."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import cos, pi

import torch
from torch import nn

from stages.train.choices import Phase
from stages.train.params import Recipe


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer over the weights that train, fused. Vectors (biases, norms) are not decayed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in trained if one.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [one for one in trained if one.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    match recipe.optimizer:
        case "adam":
            return torch.optim.Adam(groups, lr=recipe.lr, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, fused=True)


def learning_rate(phase: Phase, epoch: int, step: int, steps: int) -> float:
    """The rate of one step: a function of where the training stands, so that there is no scheduler to save.

    phase: of `stretches`. epoch: of the phase, from 0. steps: of an epoch. onecycle is torch's: a cosine from lr / 25
    up to lr over the first 30 %, then one down to lr / 250,000. The warm-up is a line from lr / (its steps) to lr; the
    schedule starts after it.
    """
    peak, warming = phase.lr, round(phase.warmup * steps)
    at = epoch * steps + step
    if at < warming:
        return peak * (at + 1) / warming
    done = (at - warming) / max(phase.epochs * steps - 1 - warming, 1)
    match phase.schedule:
        case "exponential":
            return peak * phase.decay ** ((at - warming) // steps)
        case "cosine":
            return peak * _cosine(1, 0, done)
        case "onecycle" if done < 0.3:
            return peak * _cosine(1 / 25, 1, done / 0.3)
        case "onecycle":
            return peak * _cosine(1, 1 / 250_000, (done - 0.3) / 0.7)
        case _:
            return peak


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + cos(pi * done)) / 2


class MovingAverage:
    """An exponential moving average of all floating-point state of a network, running statistics included."""

    def __init__(self, module: nn.Module, keep: float) -> None:
        """keep: share of the average that stays at each step, less in the first steps, as timm and TensorFlow do."""
        self.keep = keep
        self.steps = 0
        self._live = {name: value for name, value in module.state_dict().items() if value.is_floating_point()}
        self.tensors = {name: value.clone() for name, value in self._live.items()}

    def update(self) -> None:
        """Take the present weights into the average."""
        self.steps += 1
        keep = min(self.keep, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.tensors.values()), list(self._live.values()), 1 - keep)

    def load(self, tensors: dict[str, torch.Tensor], steps: int) -> None:
        """Go to where a checkpoint stood."""
        self.steps = steps
        for name, value in self.tensors.items():
            value.copy_(tensors[name])

    def settle(self, names: Iterable[str]) -> None:
        """Let the average of these be what they are: they will not move."""
        for name in names:
            if name in self.tensors:
                self.tensors[name].copy_(self._live[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Inside the block the network has the average for its weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, value in self._live.items():
            held = value.clone()
            value.copy_(self.tensors[name])
            self.tensors[name].copy_(held)
