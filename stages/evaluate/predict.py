"""Runs a model over the pixels of val and test, in batches of mapped rows."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from stages.contracts.manifest import SUBTYPES
from stages.contracts.progress import Progress

if TYPE_CHECKING:
    import torch

SCORED_PARTS = ("val", "test")
"""The train part is not predicted: it would more than triple the cost at full scale, and nothing is scored on it."""


def scored_rows(index: pd.DataFrame, sources: list[str], task: str) -> pd.DataFrame:
    """Rows of val and test from the recipe's `sources`, with `target` (class index), sorted as predictions are.

    index: one fold. task: "binary" (target = label) or "subtype" (target = place in SUBTYPES).
    """
    rows = index[index["source"].isin(sources) & index["split"].isin(SCORED_PARTS)]
    rows = rows.sort_values(["split", "source", "image_id"], kind="stable").reset_index(drop=True)
    target = rows["label"] if task == "binary" else rows["subtype"].map(SUBTYPES.index)
    return rows.assign(target=target.astype("int8"))


def settle(model: "torch.nn.Module", threads: int) -> "torch.nn.Module":
    """The model on the accelerator if there is one, torch held to the threads and the exactness of training."""
    import torch

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    return model.eval().to("cuda" if torch.cuda.is_available() else "cpu")


def predict_logits(
    model: "torch.nn.Module",
    prepare: "Callable[[torch.Tensor], torch.Tensor]",
    pixels: Mapping[str, np.ndarray],
    rows: pd.DataFrame,
    batch_size: int,
) -> np.ndarray:
    """Logits of `rows`, float32 (n, classes), in the order of the rows.

    model: in eval mode. prepare: uint8 (k, H, W, 3) -> float32 (k, 3, S, S), the very one of training. pixels: source
    -> store. Rows are read in the order in which they lie on disk, so that a mapped store larger than memory is read
    once from front to back; batches never mix sources, whose images differ in size.
    """
    import torch

    device = next(model.parameters()).device
    found: dict[int, np.ndarray] = {}
    with torch.inference_mode(), Progress("predict", len(rows), "images") as progress:
        for source, part in rows.groupby("source", sort=True):
            places = part.sort_values("pixel_row").index.to_numpy()
            stored = rows.loc[places, "pixel_row"].to_numpy(dtype=np.int64)
            for start in range(0, len(places), batch_size):
                batch = torch.from_numpy(pixels[str(source)][stored[start : start + batch_size]]).to(device)
                logits = model(prepare(batch)).float().cpu().numpy()
                found.update(zip(places[start : start + batch_size].tolist(), logits, strict=True))
                progress.add(len(logits))
    return np.stack([found[place] for place in rows.index])
