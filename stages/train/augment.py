"""Random changes of training images, one draw for each image of a batch.

Every draw comes from a generator that the caller seeds by (seed, epoch, step), so that a training that was cut goes on
with the very draws it would have had. torchvision's batch transforms draw once for a whole batch and kornia takes no
generator, which is why neither is used.
"""

from dataclasses import dataclass
from functools import cache
from math import log

import numpy as np
import torch
from torch.nn.functional import affine_grid, grid_sample

from stages.contracts.modelfolder import CACHED_FLOATS
from stages.train.choices import Augment

LEFT_RIGHT, TOP_BOTTOM, TRANSPOSE = 1, 2, 4
"""A view is a sum of these: first the axes are swapped, then the image is mirrored. 0 is the image itself."""


STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical density of red, green and blue that one unit of hematoxylin, eosin and residual adds (Ruifrok & Johnston,
Anal Quant Cytol Histol 2001)."""


@dataclass(frozen=True)
class Draws:
    """What happens to each image of a batch; all arrays have its length."""

    view: np.ndarray
    """int64, 0-7."""
    angle: np.ndarray
    """float32, degrees."""
    zoom: np.ndarray
    """float32, factor on the scale, above 1 = nearer."""
    stain: np.ndarray
    """float32 (n, 3), factor on the amounts of hematoxylin, eosin and residual."""

    def of(self, places: np.ndarray) -> "Draws":
        """The draws of some images of the batch."""
        return Draws(self.view[places], self.angle[places], self.zoom[places], self.stain[places])


def drawn(augment: Augment, count: int, generator: np.random.Generator) -> Draws:
    """Draw for `count` images. The same generator state gives the same draws."""
    views = np.array(views_of(augment))
    spread = log(1 + augment.zoom)
    return Draws(
        view=views[generator.integers(len(views), size=count)],
        angle=generator.uniform(-augment.rotate, augment.rotate, size=count).astype(np.float32),
        zoom=np.exp(generator.uniform(-spread, spread, size=count)).astype(np.float32),
        stain=generator.uniform(1 - augment.stain, 1 + augment.stain, size=(count, 3)).astype(np.float32),
    )


def still(count: int) -> Draws:
    """The draws that leave `count` images as they are."""
    return drawn(Augment(), count, np.random.default_rng(0))


def views_of(augment: Augment) -> tuple[int, ...]:
    """The views that an image may be shown in, the image itself first."""
    if augment.eightfold:
        return tuple(range(8))
    across = (0, LEFT_RIGHT) if augment.flip else (0,)
    return (*across, *(view + TOP_BOTTOM for view in across)) if augment.flip_vertical else across


def warps(augment: Augment) -> bool:
    """Whether images are resampled, not only turned."""
    return augment.rotate > 0 or augment.zoom > 0


def gathered(pixels: torch.Tensor, rows: torch.Tensor, views: torch.Tensor) -> torch.Tensor:
    """Images `rows` of the store, each in its view: uint8 (k, height, width, 3), in one gather.

    pixels: uint8 (n, height, width, 3), contiguous. rows, views: int64 (k,) on its device. Swapping the axes needs
    square images; of oblong ones, views 4-7 are taken for 0-3, which keep the frame: two mirrors and the half turn.
    """
    height, width = pixels.shape[1:3]
    if height != width:
        views = views % TRANSPOSE
    sources = _sources(height, width, pixels.device)
    taken = rows.unsqueeze(1) * (height * width) + sources[views]
    return pixels.view(-1, 3).index_select(0, taken.view(-1)).view(len(rows), height, width, 3)


@cache
def _sources(height: int, width: int, device: torch.device) -> torch.Tensor:
    """For each view, the place in the image from which each pixel comes: int64 (8, or 4 if oblong, height * width)."""
    image = torch.arange(height * width, device=device).view(height, width)
    count = 8 if height == width else TRANSPOSE
    return torch.stack([viewed(image, view).reshape(-1) for view in range(count)])


def viewed(image: torch.Tensor, view: int) -> torch.Tensor:
    """One view of (height, width, ...)."""
    if view & TRANSPOSE:
        image = image.transpose(0, 1)
    mirrored = [axis for axis, bit in ((0, TOP_BOTTOM), (1, LEFT_RIGHT)) if view & bit]
    return image.flip(mirrored) if mirrored else image


def warped(batch: torch.Tensor, angle: torch.Tensor, zoom: torch.Tensor, size: int) -> torch.Tensor:
    """Turn, scale and resample in one step from stored pixels: uint8 (n, H, W, 3) -> uint8 (n, size, size, 3).

    angle (n,) degrees, zoom (n,) factor. Turned in the proportions of the tissue, then squashed to the square; beyond
    the border the image is mirrored. Bilinear without antialiasing: give it images at most twice as large as `size`.
    """
    count, height, width = batch.shape[:3]
    radians = torch.deg2rad(angle)
    cosine, sine, zero = radians.cos() / zoom, radians.sin() / zoom, torch.zeros_like(zoom)
    # affine_grid speaks in half widths and half heights; tissue turns in pixels.
    rows = [cosine, -sine * height / width, zero, sine * width / height, cosine, zero]
    grid = affine_grid(torch.stack(rows, dim=1).view(count, 2, 3), [count, 3, size, size], align_corners=False)
    planes = batch.permute(0, 3, 1, 2).to(torch.float32)
    planes = grid_sample(planes, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return planes.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def restained(batch: torch.Tensor, amounts: torch.Tensor) -> torch.Tensor:
    """Change how strongly each image is stained: uint8 (n, H, W, 3) -> uint8 (n, H, W, 3).

    amounts: (n, 3) factors on hematoxylin, eosin and residual. Laboratories differ in these more than in anything else,
    and a case is stained in one of them. In optical density a stain's amount is linear (Beer and Lambert), so the whole
    change is one 3x3 matrix an image.
    """
    stains = torch.from_numpy(STAINS).to(amounts)
    matrices = (torch.linalg.inv(stains) @ (amounts.unsqueeze(2) * stains)).transpose(1, 2)
    changed = torch.empty_like(batch)
    few = max(1, CACHED_FLOATS // batch[0].numel()) if batch.device.type == "cpu" else len(batch)
    for part, of, matrix in zip(changed.split(few), batch.split(few), matrices.split(few), strict=True):
        planes = of.permute(0, 3, 1, 2).reshape(len(of), 3, -1).to(torch.float32)
        density = planes.add_(0.5).mul_(1 / 255.5).log_()  # negative; half a grey value keeps black finite
        light = torch.bmm(matrix, density).exp_().mul_(255.5).sub_(0.5).round_().clamp_(0, 255)
        part.copy_(light.view(len(of), 3, *of.shape[1:3]).permute(0, 2, 3, 1))
    return changed
