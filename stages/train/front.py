"""What stands before the part of a network that trains: nothing, a frozen prefix, or features that it gave once.

A recipe that only mirrors and turns its images shows each in one of a few views, so that a frozen prefix has a finite
number of answers. Each is computed when an epoch first asks for it, and kept. The prefix is always run on batches of
one size, the last filled up, so that the same kernels run and kept features are the very bits of computed ones.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from stages.contracts.progress import Progress
from stages.train.augment import TRANSPOSE, still, views_of, warps
from stages.train.batches import Batches
from stages.train.devices import summed
from stages.train.params import Recipe
from stages.train.prefix import Prefix

VAL_BATCH = 256
GB = 1e9


class Features:
    """Kept features of (image, view) pairs, on the device where they are used."""

    def __init__(self, like: torch.Tensor, images: int, views: Sequence[int], rows: int) -> None:
        """like: features of some images, (n, ...). rows: most pairs that will be kept."""
        self.views = views
        self._slot = np.full((images, max(views) + 1), -1, dtype=np.int64)
        self._used = 0
        # Maps lie with their channels last; rows of untouched memory cost nothing on a CPU.
        self._last = like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last)
        shape = like.permute(0, 2, 3, 1).shape[1:] if self._last else like.shape[1:]
        self._store = torch.empty((rows, *shape), dtype=like.dtype, device=like.device)

    def missing(self, positions: np.ndarray, views: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The pairs that are not kept yet, each once, sorted."""
        pairs = np.unique(np.stack([positions, views], axis=1), axis=0)
        pairs = pairs[self._slot[pairs[:, 0], pairs[:, 1]] < 0]
        return pairs[:, 0], pairs[:, 1]

    def keep(self, positions: np.ndarray, views: np.ndarray, features: torch.Tensor) -> None:
        """Keep the features of pairs that are missing."""
        slots = np.arange(self._used, self._used + len(positions))
        self._slot[positions, views] = slots
        self._used += len(positions)
        self._store[slots[0] : slots[-1] + 1] = features.permute(0, 2, 3, 1) if self._last else features

    def take(self, positions: np.ndarray, views: np.ndarray) -> torch.Tensor:
        """The features of kept pairs, in their order."""
        slots = torch.from_numpy(self._slot[positions, views]).to(self._store.device)
        found = self._store.index_select(0, slots)
        return found.permute(0, 3, 1, 2) if self._last else found


class Front:
    """Gives the trained part its input, and runs it. One for each phase."""

    def __init__(self, train: Batches, val: Batches, prefix: Prefix | None, step: int, parts: int) -> None:
        """step: images of a device's share of the largest step. parts: micro-batches that it is cut into."""
        self.train, self.val, self.prefix, self.step = train, val, prefix, step
        self.cut_into(parts)
        self.features: Features | None = None
        self.said = ""
        """What became of the features, for the log."""
        self._val: list[torch.Tensor] = []

    def cut_into(self, parts: int) -> None:
        """Run the prefix on batches as large as the micro-batches of a step in `parts`."""
        self.batch = -(-self.step // parts)

    def keep_features(self, recipe: Recipe, epochs: int, features_gb: float) -> None:
        """Keep features from now on, if that pays and they fit. epochs: that are left of the phase."""
        if self.prefix is None or epochs < 2:
            return
        if warps(recipe.augment) or recipe.augment.stain or recipe.mixup or recipe.cutmix:
            self.said = "frozen features computed in each epoch: no two augmented images are alike"
            return
        views, images = views_of(recipe.augment), len(self.train.corpus)
        like = self.prefix(self.val(np.arange(min(2, len(self.val.corpus))))[0])
        rows = images * min(len(views), epochs)
        size = (rows + len(self.val.corpus)) * like[0].numel() * like.element_size() / GB
        what = f"{images:,} images in {len(views)} view{'s' if len(views) > 1 else ''}, {size:,.2f} GB"
        if size > features_gb:
            self.said = f"frozen features computed in each epoch: {what} is more than features_gb = {features_gb:g}"
            return
        self.features = Features(like, images, views, rows)
        self.said = f"frozen features kept: {what} at most"

    def prepare(self, batches: Sequence[np.ndarray], batch_views: Sequence[np.ndarray]) -> None:
        """Compute what is not kept yet of the features that an epoch will ask for: images, and the view of each."""
        if self.features is None or not batches:
            return
        positions, views = np.concatenate(batches), np.concatenate(batch_views)
        missing, views = self.features.missing(positions, self._seen(positions, views))
        with Progress("frozen features", len(missing), "images") as progress:
            for at in range(0, len(missing), self.batch):
                some, seen = missing[at : at + self.batch], views[at : at + self.batch]
                images, _ = self.train(some, replace(still(len(some)), view=seen))
                self.features.keep(some, seen, self.before(images))
                progress.add(len(some))

    def kept(self, positions: np.ndarray, views: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Kept features and targets of what `prepare` was told of."""
        features = self.features.take(positions, self._seen(positions, views))
        return features, torch.from_numpy(self.train.corpus.target[positions]).to(features.device)

    def before(self, images: torch.Tensor) -> torch.Tensor:
        """What the trained part makes of images: their features, or the images themselves."""
        if self.prefix is None:
            return images
        return self.prefix(_filled(images, self.batch))[: len(images)]

    def run(self, model: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        """The logits for what `before` or `kept` gave."""
        return model(inputs) if self.prefix is None else self.prefix.rest(model, inputs)

    def predict(self, fabric: Fabric, model: nn.Module, classes: int) -> np.ndarray:
        """Logits of every image of val, in its order: float32 (n, classes). Sets the model to eval mode.

        The devices take the batches in turn.
        """
        model.eval()
        places = np.arange(len(self.val.corpus))
        parts = [places[at : at + VAL_BATCH] for at in range(0, len(places), VAL_BATCH)]
        mine = parts[fabric.global_rank :: fabric.world_size]
        logits = torch.zeros(len(places), classes)
        with torch.no_grad():
            for number, part in enumerate(mine):
                if number < len(self._val):
                    inputs = self._val[number]
                elif self.prefix is None:
                    inputs = self.val(part)[0]
                else:
                    inputs = self.prefix(self.val(part)[0])
                    if self.features is not None:
                        self._val.append(inputs)
                logits[part] = self.run(model, inputs.clone() if self._val else inputs).float().cpu()
        summed(fabric, [logits])
        return logits.numpy()

    def _seen(self, positions: np.ndarray, views: np.ndarray) -> np.ndarray:
        """The views as Batches shows them: an image that may not be turned by a quarter keeps its frame."""
        corpus = self.train.corpus
        turnable = np.array([corpus.turnable[source] for source in corpus.sources])[corpus.source[positions]]
        return np.where(turnable, views, views % TRANSPOSE)


def _filled(images: torch.Tensor, count: int) -> torch.Tensor:
    """Images with black ones behind them, `count` in all, as they lie in memory."""
    if len(images) >= count:
        return images
    last = images.is_contiguous(memory_format=torch.channels_last)
    filled = torch.empty(
        (count, *images.shape[1:]), dtype=images.dtype, device=images.device,
        memory_format=torch.channels_last if last else torch.contiguous_format,
    )  # fmt: skip
    filled[: len(images)] = images
    filled[len(images) :] = 0
    return filled
