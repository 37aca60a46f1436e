"""Batches against torchvision's loader: `python -m benchmarks.batches [--images 4000] [--steps 40]`.

Two questions, each answered by a ratio within one run on the same cores:

- How fast do augmented, normalised batches come? Resident gather (stages/train) against torchvision's ImageFolder +
  DataLoader with the same augmentations on the same images as loose PNG files, `num_workers` the better of 0 and one
  per core.
- What does a training pay for its batches? Steps of a training on resident batches against the same steps on tensors
  that were prepared beforehand, taken in turns so that a busy machine slows both.

Prints a table and writes benchmarks/results/batches-<cpu>.md. Images are IDC patches of ../shared/data, else noise.
"""

import argparse
import os
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets, transforms

from benchmarks.machine import ROOT, cpu, file_table
from stages.contracts.modelfolder import normalising
from stages.train.augment import drawn
from stages.train.batches import Batches, load_corpus
from stages.train.choices import Augment
from stages.train.optimize import make_optimizer
from stages.train.params import RANDOM, Recipe
from stages.train.sampling import generator

PATCHES = ROOT.parent / "shared" / "data" / "idc_sample.zip"
SIDE, BATCH = 50, 64
MEAN = STD = [0.5, 0.5, 0.5]
DEGREES, ZOOM = 15.0, 0.1
GOALS = {64: 5.0, 224: 3.0}
EPOCH_GOAL = 1.05


def main(images: int, steps: int) -> None:
    """Time everything, print the table and file it under the CPU's name."""
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pixels, origin = idc_patches(images)
        _as_loose_files(pixels, folder)
        lines = [
            *_head(len(pixels), origin, cores),
            *_throughput(pixels, folder, cores, steps),
            *_epochs(pixels, steps),
        ]
    text = "\n".join(lines) + "\n"
    file_table(text, "batches")


def _head(images: int, origin: str, cores: int) -> list[str]:
    return [
        "# Batches",
        "",
        f"{cpu()}, {cores} cores, torch {torch.__version__}; {images:,} patches of {SIDE}x{SIDE} ({origin}), "
        f"batches of {BATCH}.",
        "",
    ]


def idc_patches(count: int) -> tuple[np.ndarray, str]:
    """uint8 (count, 50, 50, 3), and where they are from."""
    if not PATCHES.exists():
        return np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8), "noise"
    found: list[np.ndarray] = []
    with zipfile.ZipFile(PATCHES) as archive:
        for member in sorted(name for name in archive.namelist() if name.endswith(".png")):
            image = Image.open(BytesIO(archive.read(member))).convert("RGB")
            if image.size == (SIDE, SIDE):
                found.append(np.asarray(image))
            if len(found) == count:
                break
    return np.stack(found), "IDC"


def _as_loose_files(pixels: np.ndarray, folder: Path) -> None:
    """What ImageFolder reads: one PNG an image, in a folder for each class."""
    for number, image in enumerate(pixels):
        file = folder / str(number % 2) / f"{number:06d}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(file)


def _throughput(pixels: np.ndarray, folder: Path, cores: int, steps: int) -> list[str]:
    lines = [
        "| batches | px | resident images/s | torchvision images/s (workers) | ratio | goal |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for what, augment in (("eight-fold", Augment(eightfold=True)), ("+ rotation, zoom", _warping())):
        for size, goal in GOALS.items():
            ours = _rate(_resident(pixels, size, augment), steps)
            by_workers = {
                workers: _rate(_peer(folder, size, augment, workers), steps if workers else max(steps // 4, 4))
                for workers in (0, cores)
            }
            workers, theirs = max(by_workers.items(), key=lambda pair: pair[1])
            shown = f">= {goal:g}" if what == "eight-fold" else ""
            lines.append(
                f"| {what} | {size} | {ours:,.0f} | {theirs:,.0f} ({workers}) | {ours / theirs:.1f} | {shown} |"
            )
    return [*lines, ""]


def _rate(batches: Iterator[Any], steps: int) -> float:
    """Images a second, after a few to warm up."""
    for _ in islice(batches, 3):
        pass
    started = time.perf_counter()
    images = sum(len(batch[1]) for batch in islice(batches, steps))
    return images / (time.perf_counter() - started)


def _warping() -> Augment:
    return Augment(eightfold=True, rotate=DEGREES, zoom=ZOOM)


def _recipe(size: int, augment: Augment, arch: str = "mobilenetv2_100") -> Recipe:
    return Recipe(
        arch=arch, sources=["idc"], task="binary", protocol="case", image_size=size, start=RANDOM,
        values="params.yaml", epochs=1,
        augment=augment,
    )  # fmt: skip


def resident_batches(pixels: np.ndarray, size: int, augment: Augment) -> Batches:
    """Batches of all `pixels` as a training holds them, half of them of each class."""
    count = len(pixels)
    columns = {"source": "idc", "case_id": "idc-1", "pixel_row": np.arange(count), "label": np.arange(count) % 2}
    rows = pd.DataFrame(columns)
    corpus = load_corpus(rows, {"idc": pixels}, _recipe(size, augment), augment)
    return Batches(corpus, normalising(size, "squash", MEAN, STD), size, augment, torch.device("cpu"))


def _resident(pixels: np.ndarray, size: int, augment: Augment) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Augmented batches without end, the way a training gathers them."""
    batches = resident_batches(pixels, size, augment)
    step = 0
    while True:
        order = generator(0, step, -1).permutation(len(pixels))
        for positions in np.array_split(order, max(1, len(order) // BATCH)):
            step += 1
            yield batches(positions, drawn(augment, len(positions), generator(0, 0, step)))


def _quarter_turn(image: Image.Image, quarters: int) -> Image.Image:
    return image.rotate(90 * quarters)


def _peer(folder: Path, size: int, augment: Augment, workers: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The same augmentations as the field writes them: one image at a time, in a DataLoader."""
    turns = [transforms.Lambda(partial(_quarter_turn, quarters=quarters)) for quarters in range(4)]
    steps: list[Callable[..., Any]] = [
        transforms.RandomHorizontalFlip(),
        transforms.RandomVerticalFlip(),
        transforms.RandomChoice(turns),
        transforms.Resize((size, size)),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    if augment.rotate:
        affine = transforms.RandomAffine(
            augment.rotate,
            scale=(1 / (1 + augment.zoom), 1 + augment.zoom),
            interpolation=transforms.InterpolationMode.BILINEAR,
        )
        steps.insert(4, affine)
    images = datasets.ImageFolder(str(folder), transforms.Compose(steps))
    loader = DataLoader(images, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
    while True:
        yield from loader


def _epochs(pixels: np.ndarray, steps: int) -> list[str]:
    lines = [
        f"| training step of {BATCH} images | px | resident, ms | tensors in memory, ms | ratio | goal |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for arch, size in (("mobilenetv2_100", 64), ("mobilenetv4_conv_small", 64), ("mobilenetv4_conv_small", 224)):
        ours, theirs = _paired_steps(pixels, arch, size, steps)
        lines.append(
            f"| {arch} | {size} | {1000 * ours:,.1f} | {1000 * theirs:,.1f} | {ours / theirs:.3f} | <= {EPOCH_GOAL} |"
        )
    return lines


def _paired_steps(pixels: np.ndarray, arch: str, size: int, steps: int) -> tuple[float, float]:
    """Median seconds of a training step on resident batches and on ready tensors, taken in turns."""
    recipe = _recipe(size, Augment(eightfold=True), arch)
    model = timm.create_model(arch, num_classes=2).to(memory_format=torch.channels_last).train()
    optimizer = make_optimizer(model, recipe)
    resident = _resident(pixels, size, recipe.augment)
    ready = cycle([(images.clone(), targets) for images, targets in islice(resident, 4)])

    def seconds(source: Iterator[tuple[torch.Tensor, torch.Tensor]]) -> float:
        started = time.perf_counter()
        images, targets = next(source)
        loss = torch.nn.functional.cross_entropy(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return time.perf_counter() - started

    for _ in range(3):
        seconds(ready)
    taken = [(seconds(resident), seconds(ready)) for _ in range(steps)]
    return statistics.median(one for one, _ in taken), statistics.median(other for _, other in taken)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4000, help="patches in all")
    parser.add_argument("--steps", type=int, default=40, help="batches timed for each line")
    arguments = parser.parse_args()
    main(arguments.images, arguments.steps)
