"""One step of the optimizer: mix, forward and backward in micro-batches, clip, move.

All that is random in it is drawn from (seed, epoch, step), over the whole step before it is cut for devices and
micro-batches: how it is cut changes no draw and no partner. Dropout alone is drawn as the network runs, by the seed of
the step plus the number of the process.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from stages.contracts.errors import StageError
from stages.train.devices import anywhere, cut, share, summed
from stages.train.front import Front
from stages.train.losses import Loss
from stages.train.mixing import mixed
from stages.train.moments import Moment
from stages.train.session import Session

SMALLEST = 2
"""Images of a micro-batch: BatchNorm has no variance of one."""


@dataclass(frozen=True)
class Step:
    """What all steps of a training share."""

    loss: Loss
    weight: np.ndarray
    """(classes,), of each class in the loss."""

    def take(self, session: Session, front: Front, positions: np.ndarray, at: Moment, parts: int) -> torch.Tensor:
        """Move the weights by the images at `positions`, in `parts` micro-batches on each device.

        Returns float64 (2,): the mean loss, and the share of the images that were recognised. Where one device has no
        memory for its part, all raise, and no weight has moved.
        """
        fabric, model, optimizer, clip = session.fabric, session.model, session.optimizer, session.recipe.clip
        front.cut_into(parts)
        optimizer.zero_grad()
        found, lacking = None, None
        try:
            found = self._gradients(session, front, positions, at, parts)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            lacking = error
        if anywhere(fabric, lacking is not None):
            raise lacking or torch.OutOfMemoryError("another device is out of memory")
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        with final(fabric.world_size):
            summed(fabric, [weight.grad for weight in weights if weight.grad is not None])
            summed(fabric, [found])
            if clip:
                fabric.clip_gradients(model, optimizer, max_norm=clip)
            optimizer.step()
        return found

    def _gradients(self, session: Session, front: Front, positions: np.ndarray, at: Moment, parts: int) -> torch.Tensor:
        """Add up the gradients of this device's share of a step; its part of what `take` returns."""
        fabric, count = session.fabric, len(positions)
        torch.manual_seed(at.seed + fabric.global_rank)
        total = float(self.weight[front.train.corpus.target[positions]].sum())
        found = torch.zeros(2, dtype=torch.float64, device=fabric.device)
        paired = at.mixing is not None
        mine = share(fabric, count, paired=paired)
        for part in cut(len(mine), parts, paired=paired):
            places = mine[part]
            inputs, targets, shares = self._shown(front, positions[places], at, places)
            logits = front.run(session.model, inputs)
            loss = self.loss(logits, shares) / total
            fabric.backward(loss)
            found += torch.stack([loss.detach().double(), (logits.argmax(dim=1) == targets).double().sum() / count])
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


@contextmanager
def final(devices: int) -> Iterator[None]:
    """Here a lack of memory can no longer be mended where there are several devices: the others go on. Says so."""
    try:
        yield
    except RuntimeError as error:
        if devices == 1 or not out_of_memory(error):
            raise
        raise StageError("a device has no memory left for the optimizer; lower the recipe's image_size") from None


def in_memory(attempt: Callable[[int], torch.Tensor], parts: int, images: int) -> tuple[torch.Tensor, int]:
    """What `attempt(parts)` gives, and the number of micro-batches with which it fitted into memory.

    parts: to begin with; doubled as long as memory runs out. images: of each device's share. Raises StageError where a
    micro-batch cannot be halved.
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
