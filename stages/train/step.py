"""One step of the optimizer: mix, forward and backward in micro-batches, clip, move.

All that is random in it is drawn from (seed, epoch, step), over the whole step before it is cut: how it is cut changes
no draw.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from stages.contracts.errors import StageError
from stages.train.augment import Draws, drawn
from stages.train.front import Front
from stages.train.losses import Loss
from stages.train.mixing import Mixing, drawn_mixing, mixed
from stages.train.params import Recipe
from stages.train.sampling import generator
from stages.train.session import Session

SMALLEST = 2
"""Images of a micro-batch: BatchNorm has no variance of one."""


@dataclass(frozen=True)
class Moment:
    """All that is random in one step."""

    seed: int
    """Of dropout and the like."""
    draws: Draws
    mixing: Mixing | None


def moment(recipe: Recipe, epoch: int, step: int, images: int) -> Moment:
    """The draws of one step for its images; they need no state to be resumed."""
    own = generator(recipe.seed, epoch, step)
    seed = int(own.integers(2**63))
    return Moment(seed, drawn(recipe.augment, images, own), drawn_mixing(recipe, images, own))


@dataclass(frozen=True)
class Step:
    """What all steps of a training share."""

    loss: Loss
    weight: np.ndarray
    """(classes,), of each class in the loss."""

    def take(self, session: Session, front: Front, positions: np.ndarray, at: Moment, parts: int) -> torch.Tensor:
        """Move the weights by the images at `positions`, in `parts` micro-batches.

        Returns float64 (2,): the mean loss, and the share of the images that were recognised.
        """
        torch.manual_seed(at.seed)
        fabric, model, optimizer, clip = session.fabric, session.model, session.optimizer, session.recipe.clip
        count, target = len(positions), front.train.corpus.target[positions]
        total = float(self.weight[target].sum())
        found = torch.zeros(2, dtype=torch.float64, device=fabric.device)
        front.cut_into(parts)
        optimizer.zero_grad()
        for part in np.array_split(np.arange(count), parts):
            inputs, targets, shares = self._shown(front, positions[part], at, part)
            logits = front.run(model, inputs)
            loss = self.loss(logits, shares) / total
            fabric.backward(loss)
            found += torch.stack([loss.detach().double(), (logits.argmax(dim=1) == targets).double().sum() / count])
        if clip:
            fabric.clip_gradients(model, optimizer, max_norm=clip)
        optimizer.step()
        return found

    def _shown(
        self, front: Front, positions: np.ndarray, at: Moment, part: np.ndarray
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the trained part gets to see of a micro-batch, its targets, and the shares of the classes in it."""
        draws = at.draws.of(part)
        if front.features is not None:
            inputs, targets = front.kept(positions, draws.view)
            return inputs, targets, targets
        images, targets = front.train(positions, draws)
        shares = targets
        if at.mixing:
            images, shares = mixed(images, targets, len(self.weight), at.mixing.of(part))
        return front.before(images), targets, shares


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
