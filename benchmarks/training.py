"""What a training pays beside its network: `python -m benchmarks.training [--seconds 20]`.

Two questions, each answered by a ratio of steps that are taken in turns, so that a busy machine slows both:

- How much slower is a step of the real loop (stages/train/fit: batches, augmentation, mixing, optimizer, average) than
  forward, backward and step of the bare network on tensors that lie ready? For each architecture of params.yaml.
- What does bf16-mixed make of a step of the bare network on this CPU?

One thread, as a training of the pipeline has. Prints a table and writes benchmarks/results/training-<cpu>.md. Images
are IDC patches of ../shared/data, else noise.
"""

import argparse
import re
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Self

import numpy as np
import torch
import yaml
from lightning_fabric import Fabric
from torch.nn.functional import cross_entropy

from benchmarks.batches import idc_patches, resident_batches
from benchmarks.machine import ROOT, cpu, file_table
from stages.train import fit as loop
from stages.train.batches import Batches
from stages.train.checkpoint import Checkpoint
from stages.train.choices import Augment
from stages.train.moments import moment
from stages.train.optimize import make_optimizer
from stages.train.params import RANDOM, Recipe
from stages.train.training import settle
from stages.train.weights import fetch_from_hub, start_model

SIZE, BATCH, IMAGES = 64, 32, 1600
WARM, LEAST = 2, 5
"""Pairs that do not count, and those that at least do."""
GOAL = 1.05
HALVED = ("vgg16", "resnet50", "mobilenetv4", "densenet161")


class EnoughError(Exception):
    """Enough pairs were timed."""


@dataclass
class Pairs:
    """Seconds of two kinds of steps, taken in turns until the time is over."""

    until_s: float
    taken: list[tuple[float, float]] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def add(self, one: float, other: float) -> None:
        """Note a pair. Raises EnoughError when the time is over."""
        self.taken.append((one, other))
        if len(self.taken) >= WARM + LEAST and time.perf_counter() - self.started > self.until_s:
            raise EnoughError

    def medians(self) -> tuple[float, float, float]:
        """Of the one, of the other, and of the ratio within a pair."""
        counted = self.taken[WARM:]
        ones, others = zip(*counted, strict=True)
        return statistics.median(ones), statistics.median(others), statistics.median(a / b for a, b in counted)


class Bare:
    """A network on tensors that lie ready: forward, backward, step."""

    def __init__(self, recipe: Recipe, train: Batches, precision: str = "32-true") -> None:
        torch.manual_seed(0)
        self.model = start_model(recipe, 2, [], "random", fetch_from_hub).model.train()
        self.model.to(memory_format=torch.channels_last)
        self.optimizer = make_optimizer(self.model, recipe)
        self.half = precision == "bf16-mixed"
        some = [np.arange(BATCH) + BATCH * number for number in range(4)]
        ready = [train(places, moment(recipe, 0, number, BATCH).draws) for number, places in enumerate(some)]
        self.ready = cycle([(images.clone(), targets) for images, targets in ready])
        train(some[0])

    def seconds(self) -> float:
        """Take a step; how long it took."""
        started = time.perf_counter()
        images, targets = next(self.ready)
        with torch.autocast("cpu", torch.bfloat16) if self.half else nullcontext():
            loss = cross_entropy(self.model(images), targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return time.perf_counter() - started


def paced(bare: Bare, pairs: Pairs) -> type:
    """A stand-in for the loop's Progress that takes a step of the bare network after each of the loop's."""

    class Paced:
        note = ""
        done = 0

        def __init__(self, *_: object) -> None:
            self.started = time.perf_counter()

        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def add(self, _: int) -> None:
            pairs.add(time.perf_counter() - self.started, bare.seconds())
            self.started = time.perf_counter()

    return Paced


def loop_against_bare(recipe: Recipe, train: Batches, val: Batches, seconds: float) -> Pairs:
    """Steps of a training through the real loop, and of the bare network."""
    pairs = Pairs(seconds)
    whole, loop.Progress = loop.Progress, paced(Bare(recipe, train), pairs)
    torch.manual_seed(0)
    start = start_model(recipe, 2, [], "random", fetch_from_hub)
    with tempfile.TemporaryDirectory() as name:
        checkpoint = Checkpoint.of("benchmark", "a", Path(name))
        fabric = Fabric(accelerator="cpu", devices=1)
        try:
            loop.fit(fabric, start, recipe, checkpoint, train=train, val=val, features_gb=0)
        except EnoughError:
            pass
        finally:
            loop.Progress = whole
    return pairs


def half_against_whole(recipe: Recipe, train: Batches, seconds: float) -> Pairs:
    """Steps of the bare network in bf16-mixed and in 32-true."""
    pairs, half, whole = Pairs(seconds), Bare(recipe, train, "bf16-mixed"), Bare(recipe, train)
    try:
        while True:
            pairs.add(half.seconds(), whole.seconds())
    except EnoughError:
        return pairs


def by_architecture() -> dict[str, Recipe]:
    """The first recipe of each architecture, with all of it trained, at one size and batch."""
    held: dict[str, Recipe] = {}
    for name, said in yaml.safe_load((ROOT / "params.yaml").read_text())["recipes"].items():
        if said["arch"] in {one.arch for one in held.values()}:
            continue
        changes = {
            "start": RANDOM,
            "image_size": SIZE,
            "batch_size": BATCH,
            "epochs": 1000,
            "task": "binary",
            "values": "params.yaml",
        }
        common = {key: value for key, value in said.items() if key not in ("freeze", "phases", "budget", "patience")}
        held[name] = Recipe.model_validate({**common, **changes, "sources": ["idc"]})
    return held


def machine_words() -> str:
    """What of bf16 this CPU can do by itself."""
    flags = re.search(r"flags\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    held = set(flags[1].split()) if flags else set()
    return f"AMX {'yes' if 'amx_bf16' in held else 'no'}, AVX-512 bf16 {'yes' if 'avx512_bf16' in held else 'no'}"


def row(name: str, arch: str, pairs: Pairs, goal: str = "") -> str:
    """A line of a table."""
    one, other, ratio = pairs.medians()
    rates = f"{BATCH / one:,.1f} | {BATCH / other:,.1f}"
    return f"| {name} | {arch} | {len(pairs.taken) - WARM} | {rates} | {ratio:.3f} |{f' {goal} |' if goal else ''}"


def main(seconds: float) -> None:
    """Time everything, print the table and file it under the CPU's name."""
    settle(1)
    pixels, origin = idc_patches(IMAGES)
    recipes = by_architecture()
    val = resident_batches(pixels[:BATCH], SIZE, Augment())

    def of_each(names: list[str], work: Callable[[Recipe, Batches], Pairs], goal: str) -> list[str]:
        return [
            row(
                name,
                recipes[name].arch,
                work(recipes[name], resident_batches(pixels, SIZE, recipes[name].augment)),
                goal,
            )
            for name in names
        ]

    halved = [name for arch in HALVED for name in recipes if name.startswith(arch)]
    lines = [
        "# Training",
        "",
        f"{cpu()} ({machine_words()}), one thread, torch {torch.__version__}; {len(pixels):,} patches ({origin}) at "
        f"{SIZE} px, steps of {BATCH} images, nothing frozen; images/s and the ratio are medians over pairs of steps.",
        "",
        "| recipe | architecture | pairs | real loop, images/s | bare network, images/s | times slower | goal |",
        "|---|---|---:|---:|---:|---:|---|",
        *of_each(list(recipes), lambda recipe, train: loop_against_bare(recipe, train, val, seconds), f"<= {GOAL:g}"),
        "",
        "| recipe | architecture | pairs | bf16-mixed, images/s | 32-true, images/s | bf16 times slower |",
        "|---|---|---:|---:|---:|---:|",
        *of_each(halved, lambda recipe, train: half_against_whole(recipe, train, seconds), ""),
    ]
    file_table("\n".join(lines) + "\n", "training")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20, help="at least, for each line")
    main(parser.parse_args().seconds)
