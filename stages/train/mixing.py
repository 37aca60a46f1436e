"""MixUp and CutMix: each image of a batch is mixed with its opposite, by a share of its own.

The opposite of image i of n is image n - 1 - i: batches come in random order, so that pairs are random without a draw.
"""

from dataclasses import dataclass

import numpy as np
import torch

from stages.train.losses import as_shares
from stages.train.params import Recipe


@dataclass(frozen=True)
class Mixing:
    """How much each image of a batch keeps of itself; all arrays have its length."""

    keep: np.ndarray
    """float32, 0-1."""
    cut: np.ndarray
    """bool: a box of the opposite is pasted in, else the two are blended."""
    middle: np.ndarray
    """float32 (n, 2), of the box: down and across, 0-1."""

    def of(self, places: np.ndarray) -> "Mixing":
        """The mixing of some images of the batch."""
        return Mixing(self.keep[places], self.cut[places], self.middle[places])


def drawn_mixing(recipe: Recipe, count: int, generator: np.random.Generator) -> Mixing | None:
    """Draw for `count` images; None where the recipe does not mix."""
    if not recipe.mixup and not recipe.cutmix:
        return None
    cut = generator.random(count) < (0.5 if recipe.mixup and recipe.cutmix else float(recipe.cutmix > 0))
    alpha = np.where(cut, recipe.cutmix, recipe.mixup)
    keep = generator.beta(alpha, alpha)
    return Mixing(keep.astype(np.float32), cut, generator.random((count, 2)).astype(np.float32))


def mixed(
    images: torch.Tensor, target: torch.Tensor, classes: int, mixing: Mixing
) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (n, 3, S, S) and the shares of the classes in them, float32 (n, classes).

    target: int64 (n,). A box that reaches over the border is cut off there, and its share is what is seen of it.
    """
    size = images.shape[-1]
    keep = torch.from_numpy(mixing.keep).to(images.device).view(-1, 1, 1, 1)
    own = keep
    if mixing.cut.any():
        cut = torch.from_numpy(mixing.cut).to(images.device).view(-1, 1, 1, 1)
        half = (size * (1 - keep).sqrt() / 2).round()
        middle = torch.from_numpy(mixing.middle).to(images.device).view(-1, 2, 1, 1) * size
        place = torch.arange(size, device=images.device) + 0.5
        down = (place.view(1, 1, -1, 1) - middle[:, :1]).abs() < half
        across = (place.view(1, 1, 1, -1) - middle[:, 1:]).abs() < half
        own = torch.where(cut, 1 - (down & across).to(keep.dtype), keep)
    share = own.mean(dim=(2, 3))
    shares = as_shares(target, classes)
    return torch.lerp(images.flip(0), images, own), share * shares + (1 - share) * shares.flip(0)
