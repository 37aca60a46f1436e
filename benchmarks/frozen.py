"""Features of a frozen VGG16 kept, against the plain loop: `python -m benchmarks.frozen [--images 192] [--size 64]`.

A training of ten epochs over the eight flips and turns of its images, with the convolutional base frozen: once with the
features kept, once with `features_gb: 0`, beside one pass of the base over all views. All in one process on one thread,
one after the other, so that the ratios hold on a busy machine too. Prints a table and writes
benchmarks/results/frozen-<cpu>.md.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning_fabric import Fabric

from benchmarks.machine import cpu, file_table
from stages.contracts.modelfolder import normalising
from stages.train.batches import Batches, load_corpus
from stages.train.checkpoint import Checkpoint
from stages.train.choices import Augment
from stages.train.fit import Fitted, fit
from stages.train.params import RANDOM, Recipe
from stages.train.training import settle
from stages.train.weights import fetch_from_hub, start_model

EPOCHS, VIEWS, GOAL = 10, 8, 1.5


def main(images: int, size: int) -> None:
    """Time all three, print the table and file it under the CPU's name."""
    settle(1)
    recipe = Recipe(
        arch="vgg16", sources=["idc"], task="binary", protocol="case", image_size=size, start=RANDOM,
        values="params.yaml", epochs=EPOCHS,
        freeze="all", head={"hidden": [256], "dropout": 0.5}, augment={"eightfold": True}, batch_size=32,
    )  # fmt: skip
    batches = _batches(images, recipe)
    with tempfile.TemporaryDirectory() as name:
        one_pass, _ = _timed(lambda: _pass_over_views(recipe, batches))
        kept, fitted = _timed(lambda: _trained(recipe, batches, Path(name) / "kept", 4.0))
        plain, computed = _timed(lambda: _trained(recipe, batches, Path(name) / "plain", 0.0))
    same = all(torch.equal(value, computed.weights[key]) for key, value in fitted.weights.items())
    lines = [
        "# Frozen features",
        "",
        f"{cpu()}, one thread, torch {torch.__version__}; VGG16 at {size} px, {images} images, {EPOCHS} epochs, "
        f"{VIEWS} views; the two trainings end in {'the same' if same else 'DIFFERENT'} weights.",
        "",
        "| | s | times one pass | goal |",
        "|---|---:|---:|---|",
        f"| one pass of the base over all views | {one_pass:.1f} | 1.00 | |",
        f"| training, features kept | {kept:.1f} | {kept / one_pass:.2f} | <= {GOAL:g} |",
        f"| training, plain loop | {plain:.1f} | {plain / one_pass:.2f} | |",
    ]
    file_table("\n".join(lines) + "\n", "frozen")


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    found = work()
    return time.perf_counter() - started, found


def _batches(images: int, recipe: Recipe) -> Batches:
    pixels = np.random.default_rng(0).integers(0, 256, (images, 50, 50, 3), dtype=np.uint8)
    columns = {"source": "idc", "case_id": "idc-1", "pixel_row": np.arange(images), "label": np.arange(images) % 2}
    corpus = load_corpus(pd.DataFrame(columns), {"idc": pixels}, recipe, recipe.augment)
    prepare = normalising(recipe.image_size, recipe.view, [0.5] * 3, [0.25] * 3)
    return Batches(corpus, prepare, recipe.image_size, recipe.augment, torch.device("cpu"))


def _pass_over_views(recipe: Recipe, batches: Batches) -> None:
    torch.manual_seed(0)
    body = start_model(recipe, 2, [], "random", fetch_from_hub).model.body.to(memory_format=torch.channels_last).eval()
    with torch.no_grad():
        for _ in range(VIEWS):
            for positions in np.array_split(np.arange(len(batches.corpus)), len(batches.corpus) // recipe.batch_size):
                body(batches(positions)[0])


def _trained(recipe: Recipe, train: Batches, folder: Path, features_gb: float) -> Fitted:
    """The whole of a training. Its val part is a tenth of its images."""
    torch.manual_seed(0)
    start = start_model(recipe, 2, [], "random", fetch_from_hub)
    val = _batches(len(train.corpus) // 10, recipe.model_copy(update={"augment": Augment()}))
    fabric = Fabric(accelerator="cpu", devices=1)
    return fit(
        fabric, start, recipe, Checkpoint.of("frozen", "a", folder), train=train, val=val, features_gb=features_gb
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=192)
    parser.add_argument("--size", type=int, default=64)
    words = parser.parse_args()
    main(words.images, words.size)
