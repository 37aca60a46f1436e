"""The images of one training, resident as uint8, and the batches gathered from them by index.

No worker processes, no decoding, no loader: the whole corpus is 2-4 GB, and a batch is a gather. Images of the two
sources differ in shape, so each source keeps its own tensor and a batch is put together at the model's size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch

from stages.contracts.manifest import LABELS, SUBTYPES
from stages.contracts.modelfolder import View, cropped, resampled
from stages.contracts.progress import Progress
from stages.train.augment import Draws, gathered, restained, still, warped, warps
from stages.train.choices import Augment
from stages.train.params import Recipe

READ_ROWS = 1024
"""Rows read at once: some tens of MB."""

WARP_MARGIN = 2
"""A warped image is kept this many times as large as the model's view; warping more than that would alias."""


@dataclass(frozen=True)
class Corpus:
    """Every image of one part. Position i names image `row[i]` of `pixels[sources[source[i]]]`."""

    sources: tuple[str, ...]
    pixels: Mapping[str, torch.Tensor]
    """source -> uint8 (n, height, width, 3)."""
    turnable: Mapping[str, bool]
    """source -> whether its images may be turned by a quarter: they are square and were not squashed to be so."""
    source: np.ndarray
    """int64 (n,), place in `sources`."""
    row: np.ndarray
    """int64 (n,)."""
    target: np.ndarray
    """int64 (n,), class index."""
    case: np.ndarray
    """int64 (n,), a number for each case."""

    def __len__(self) -> int:
        return len(self.target)

    def to(self, device: torch.device) -> "Corpus":
        """The same corpus on `device` if there is room beside the training, else where it is."""
        if device.type != "cuda":
            return self
        size_bytes = sum(tensor.numel() for tensor in self.pixels.values())
        if size_bytes > torch.cuda.mem_get_info(device)[0] // 2:
            return self
        return replace(self, pixels={source: tensor.to(device) for source, tensor in self.pixels.items()})


def class_names(task: str) -> tuple[str, ...]:
    """Names of the classes of a task, in the order of the logits."""
    return LABELS if task == "binary" else SUBTYPES


def load_corpus(
    rows: pd.DataFrame, stores: Mapping[str, np.ndarray], recipe: Recipe, augment: Augment | None = None
) -> Corpus:
    """Read the images of `rows` into memory, in the order in which they lie on disk.

    rows: of an index, sorted. stores: source -> mapped pixel store. augment: what will be done to them. Images larger
    than the model's view are reduced as they are read, by the code that prepares them otherwise: less memory, and once
    instead of once an epoch. Those that will be warped keep twice the model's size.
    """
    margin = WARP_MARGIN if augment and warps(augment) else 1
    reduce = partial(_reduced, view=recipe.view, size=recipe.image_size, margin=margin)
    rows = rows.reset_index(drop=True)
    sources = tuple(sorted(rows["source"].unique()))
    target = rows["label"] if recipe.task == "binary" else rows["subtype"].map(SUBTYPES.index)
    row = np.zeros(len(rows), dtype=np.int64)
    pixels: dict[str, torch.Tensor] = {}
    turnable: dict[str, bool] = {}
    for source in sources:
        places = np.flatnonzero(rows["source"] == source)
        stored = rows["pixel_row"].to_numpy(dtype=np.int64)[places]
        order = np.argsort(stored, kind="stable")
        row[places[order]] = np.arange(len(order))
        pixels[source] = _read(source, stores[source], stored[order], reduce)
        turnable[source] = recipe.view == "crop" or stores[source].shape[1] == stores[source].shape[2]
    return Corpus(
        sources=sources,
        pixels=pixels,
        turnable=turnable,
        source=rows["source"].map(sources.index).to_numpy(dtype=np.int64),
        row=row,
        target=target.to_numpy(dtype=np.int64),
        case=pd.factorize(rows["case_id"], sort=True)[0].astype(np.int64),
    )


def _read(
    source: str, store: np.ndarray, rows: np.ndarray, reduce: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    """The given rows of one store, each block reduced as it is read: uint8 (n, height, width, 3)."""
    blocks = []
    with Progress(f"read {source}", len(rows), "images") as progress:
        for start in range(0, len(rows), READ_ROWS):
            block = torch.from_numpy(store[rows[start : start + READ_ROWS]])
            blocks.append(reduce(block).contiguous())
            progress.add(len(block))
    return torch.cat(blocks)


def _reduced(block: torch.Tensor, view: View, size: int, margin: int) -> torch.Tensor:
    """What of stored images the training can make use of: at `margin` 1 the very view of the model, above it more."""
    block = cropped(block) if view == "crop" else block
    height, width = block.shape[1:3]
    scale = margin * size / min(height, width)
    if scale > 1:
        return block
    if margin == 1:
        return resampled(block, size, size)
    return resampled(block, round(height * scale), round(width * scale))


class Batches:
    """Gathers, augments and prepares batches. What it returns is valid until the next call."""

    def __init__(
        self,
        corpus: Corpus,
        prepare: Callable[..., torch.Tensor],
        image_size: int,
        augment: Augment,
        device: torch.device,
        *,
        channels_last: bool = True,
    ) -> None:
        """prepare: `contracts.modelfolder.normalising(...)`. augment: what the draws of a batch are drawn from."""
        self.corpus, self.prepare, self.image_size, self.augment = corpus, prepare, image_size, augment
        self.device, self.channels_last = device, channels_last
        self._buffer: torch.Tensor | None = None

    def __call__(self, positions: np.ndarray, draws: Draws | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Images float32 (n, 3, S, S) and targets int64 (n,), in the order of `positions`.

        draws: of `drawn(augment, ...)`, one for each position; None leaves the images as they are, the way evaluate
        sees them.
        """
        changes = draws is not None
        draws = draws or still(len(positions))
        held = self.corpus.source[positions]
        parts: list[torch.Tensor] = []
        places: list[np.ndarray] = []
        for number, source in enumerate(self.corpus.sources):
            mine = np.flatnonzero(held == number)
            if not len(mine):
                continue
            pixels = self.corpus.pixels[source]
            own = draws.of(mine)
            view = own.view if self.corpus.turnable[source] else own.view % 4
            part = gathered(
                pixels, self._on(self.corpus.row[positions[mine]], pixels), self._on(np.ascontiguousarray(view), pixels)
            ).to(self.device)
            if changes and warps(self.augment):
                part = warped(part, self._on(own.angle, part), self._on(own.zoom, part), self.image_size)
            parts.append(resampled(part, self.image_size, self.image_size))
            places.append(mine)
        images = parts[0]
        if len(parts) > 1:
            order = torch.from_numpy(np.argsort(np.concatenate(places)))
            images = torch.cat(parts).index_select(0, order.to(self.device))
        if changes and self.augment.stain:
            images = restained(images, self._on(draws.stain, images))
        targets = torch.from_numpy(self.corpus.target[positions]).to(self.device)
        planes = self.prepare(images, self._room(len(positions)))
        return planes if self.channels_last else planes.contiguous(), targets

    def _on(self, values: np.ndarray, beside: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(values).to(beside.device)

    def _room(self, count: int) -> torch.Tensor:
        """A buffer that outlives the batch: taking fresh memory for each costs more than filling it."""
        if self._buffer is None or len(self._buffer) < count:
            self._buffer = torch.empty((count, self.image_size, self.image_size, 3), device=self.device)
        return self._buffer
