"""One step of the optimizer: draw, mix, forward and backward in micro-batches, clip, move.

All that is random in it is drawn from (seed, epoch, step), over the whole step before it is cut: how it is cut changes
no draw.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from stages.contracts.errors import StageError
from stages.train.augment import drawn
from stages.train.batches import Batches
from stages.train.losses import Loss
from stages.train.mixing import drawn_mixing, mixed
from stages.train.params import Recipe

SMALLEST = 2
"""Images of a micro-batch: BatchNorm has no variance of one."""


@dataclass(frozen=True)
class Step:
    """What all steps of a training share."""

    fabric: Fabric
    recipe: Recipe
    train: Batches
    loss: Loss
    weight: np.ndarray
    """(classes,), of each class in the loss."""

    def take(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, positions: np.ndarray, moment: np.random.Generator,
        parts: int,
    ) -> torch.Tensor:  # fmt: skip
        """Move the weights by the images at `positions`, in `parts` micro-batches.

        moment: the generator of this step, fresh. Returns float64 (2,): the mean loss, and the share of the images that
        were recognised.
        """
        torch.manual_seed(int(moment.integers(2**63)))  # dropout and the like
        count, target = len(positions), self.train.corpus.target[positions]
        draws = drawn(self.recipe.augment, count, moment)
        mixing = drawn_mixing(self.recipe, count, moment)
        total = float(self.weight[target].sum())
        found = torch.zeros(2, dtype=torch.float64, device=self.fabric.device)
        optimizer.zero_grad()
        for part in np.array_split(np.arange(count), parts):
            images, targets = self.train(positions[part], draws.of(part))
            shares = targets
            if mixing:
                images, shares = mixed(images, targets, len(self.weight), mixing.of(part))
            logits = model(images)
            loss = self.loss(logits, shares) / total
            self.fabric.backward(loss)
            found += torch.stack([loss.detach().double(), (logits.argmax(dim=1) == targets).double().sum() / count])
        if self.recipe.clip:
            self.fabric.clip_gradients(model, optimizer, max_norm=self.recipe.clip)
        optimizer.step()
        return found


def in_memory(attempt: Callable[[int], torch.Tensor], parts: int, images: int) -> tuple[torch.Tensor, int]:
    """What `attempt(parts)` gives, and the number of micro-batches with which it fitted into memory.

    parts: to begin with; doubled as long as memory runs out. Raises StageError where a micro-batch cannot be halved.
    """
    while True:
        try:
            return attempt(parts), parts
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
        if images // (2 * parts) < SMALLEST:
            raise StageError(
                f"memory runs out with a micro-batch of {images // parts} images; lower the recipe's image_size"
            )
        parts *= 2
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that the device, or this machine, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
