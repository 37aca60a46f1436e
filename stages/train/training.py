"""One recipe from its index to a trained model and the record of it. Reads; writes nothing but checkpoints."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import timm
import torch
from lightning_fabric import Fabric
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.flop_counter import FlopCounterMode

from stages.contracts import modelfolder, networks
from stages.contracts.errors import StageError
from stages.contracts.files import sha256_of
from stages.contracts.modelfolder import ModelRecord, normalising
from stages.train.batches import Batches, Corpus, class_names, load_corpus
from stages.train.checkpoint import CHECKPOINTS, Checkpoint, fingerprint
from stages.train.choices import Augment
from stages.train.continued import continued
from stages.train.fit import Curves, Fitted, fit
from stages.train.params import InitMissing, Recipe
from stages.train.weights import StartModel, fetch_from_hub, start_model

CODE = (Path(__file__).parent, Path(modelfolder.__file__), Path(networks.__file__))
"""The code that decides what a training makes; a checkpoint of other code is not taken up."""


@dataclass(frozen=True)
class Surroundings:
    """What a training depends on beside its recipe and its images."""

    name: str
    """Of the recipe."""
    threads: int
    weight_folders: Sequence[Path]
    init_missing: InitMissing
    data: str
    """"demo", "real sample" or "full"."""
    index_sha256: str
    features_gb: float
    """Most memory for features of frozen parts; it changes the time that a training takes, not its result."""
    parent: ModelRecord | None = None
    """Of the recipe whose weights are taken, if it is to start from one."""
    checkpoints: Path = CHECKPOINTS


@dataclass(frozen=True)
class Trained:
    """A finished training, ready to be written."""

    model: nn.Module
    """With the weights of the best epoch."""
    record: ModelRecord
    curves: Curves
    images_per_s: float
    checkpoint: Checkpoint | None
    """None for all processes but the first."""
    said: list[str]
    """For the log."""


def usable_sources(rows: pd.DataFrame, recipe: Recipe) -> list[str]:
    """The recipe's sources that have a training image, in its order. rows: one fold of an index."""
    trained = set(rows.loc[rows["split"] == "train", "source"])
    return [source for source in recipe.sources if source in trained]


def train_recipe(
    recipe: Recipe, rows: pd.DataFrame, stores: Mapping[str, np.ndarray], around: Surroundings, fabric: Fabric,
    *, watch: Callable[[Curves], None] | None = None,
) -> Trained:  # fmt: skip
    """Train `recipe` on the rows of one fold of its index.

    rows: of any source. stores: source -> mapped pixel store. fabric: launched. watch: as `fit` takes it. Raises
    StageError where the training part holds fewer than two classes, or val no image.
    """
    settle(around.threads)
    rows = rows[rows["source"].isin(usable_sources(rows, recipe))]
    train = load_corpus(rows[rows["split"] == "train"], stores, recipe, recipe.augment)
    val = load_corpus(rows[rows["split"] == "val"], stores, recipe)
    names = class_names(recipe.task)
    untrained = _untrained_classes(train, val, names)

    start = take_start(recipe, around)
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        start = replace(start, model=convert_sync_batchnorm(start.model))
    checkpoint = None
    if fabric.is_global_zero:
        named = _fingerprint(recipe, around, start, (train, val), fabric)
        checkpoint = Checkpoint.of(around.name, named, around.checkpoints)
    prepare = normalising(recipe.image_size, recipe.view, start.mean, start.std)

    def batches(part: Corpus, augment: Augment) -> Batches:
        on = part.to(fabric.device)
        return Batches(on, prepare, recipe.image_size, augment, fabric.device, channels_last=recipe.channels_last)

    fitted = fit(
        fabric,
        start,
        recipe,
        checkpoint,
        train=batches(train, recipe.augment),
        val=batches(val, Augment()),
        features_gb=around.features_gb,
        watch=watch,
    )
    start.model.load_state_dict(fitted.weights)
    record = _record(recipe, around, start, fitted, parts=(train, val), untrained=untrained, fabric=fabric)
    return Trained(start.model, record, fitted.state.curves, fitted.images_per_s, checkpoint, fitted.said)


def take_start(recipe: Recipe, around: Surroundings) -> StartModel:
    """The recipe's network before its first step."""
    names = class_names(recipe.task)
    torch.manual_seed(recipe.seed)
    if around.parent:
        return continued(recipe, names, around.parent, around.index_sha256)
    return start_model(recipe, len(names), around.weight_folders, around.init_missing, fetch_from_hub)


def settle(threads: int) -> None:
    """Hold torch to `threads` and to operations that give the same bits every time."""
    torch.set_num_threads(threads)
    # A few operations have no such form on a GPU; there torch warns and goes on.
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # Filling fresh memory guards against reads of what was never written; it would cost a pass over every map.
    torch.utils.deterministic.fill_uninitialized_memory = False


def _untrained_classes(train: Corpus, val: Corpus, names: Sequence[str]) -> list[str]:
    """Classes without a training image. Raises StageError where there is nothing to learn or to choose by."""
    present = [names[label] for label in np.unique(train.target)]
    if len(present) < 2:
        raise StageError(
            f"the {len(train):,} training images are all {present[0]}; a classifier needs two classes: "
            "give it more cases, or look into reports/split for where the others went"
        )
    if not len(val):
        raise StageError("val has no image of the recipe's sources to choose the epoch by: give it more cases")
    return [name for name in names if name not in present]


def _fingerprint(
    recipe: Recipe, around: Surroundings, start: StartModel, parts: Sequence[Corpus], fabric: Fabric
) -> str:
    """Names all that decides the result: change one of these and a checkpoint is no longer taken up."""
    pixels = hashlib.sha256()
    for part in parts:
        for source in part.sources:
            pixels.update(part.pixels[source].numpy())
    files = sorted(file for path in CODE for file in (path.glob("*.py") if path.is_dir() else [path]))
    return fingerprint(
        {
            "recipe": recipe.model_dump(mode="json"),
            "index": around.index_sha256,
            "pixels": pixels.hexdigest(),
            "start": start.start.model_dump(),
            "threads": around.threads,
            "device": fabric.device.type,
            "devices": fabric.world_size,
            "code": [sha256_of(file) for file in files],
            "versions": [torch.__version__, timm.__version__],
        }
    )


def _record(
    recipe: Recipe,
    around: Surroundings,
    start: StartModel,
    fitted: Fitted,
    *,
    parts: tuple[Corpus, Corpus],
    untrained: list[str],
    fabric: Fabric,
) -> ModelRecord:
    train, val = parts
    settings: dict[str, Any] = recipe.model_dump(mode="json")
    devices = {"devices": fabric.world_size} if fabric.world_size > 1 else {}
    decisive = json.dumps({**settings, "threads": around.threads, **devices}, sort_keys=True)
    parameters = list(start.model.parameters())
    sources = [source for source in recipe.sources if source in train.sources]
    return ModelRecord(
        recipe=around.name,
        settings=settings,
        class_names=list(class_names(recipe.task)),
        untrained_classes=untrained,
        sources=sources,
        missing_sources=[source for source in recipe.sources if source not in sources],
        data=around.data,
        protocol=recipe.protocol,
        fold=recipe.fold,
        image_size=recipe.image_size,
        view=recipe.view,
        mean=list(start.mean),
        std=list(start.std),
        index_sha256=around.index_sha256,
        params_sha256=hashlib.sha256(decisive.encode()).hexdigest(),
        start=start.start,
        parameters=sum(one.numel() for one in parameters),
        trained_parameters=fitted.state.trained,
        notes=_notes(recipe, fitted, start.model, fabric),
        macs=count_macs(start.model, recipe.image_size),
        train_images=len(train),
        val_images=len(val),
        epochs=fitted.state.epoch,
        best_epoch=fitted.state.best_epoch,
        best={name: rounded(value) for name, value in fitted.state.best.items()},
        threads=around.threads,
    )


def _notes(recipe: Recipe, fitted: Fitted, model: nn.Module, fabric: Fabric) -> list[str]:
    """What the training had to do otherwise than the recipe says, or than on one device."""
    state, notes, devices = fitted.state, [], fabric.world_size
    if devices > 1:
        apart = any(isinstance(one, _BatchNorm) and not isinstance(one, nn.SyncBatchNorm) for one in model.modules())
        notes.append(f"trained on {devices} devices{', BatchNorm over the share of each' if apart else ''}")
    if state.parts > recipe.accumulate:
        size = -(-recipe.batch_size // (state.parts * devices))
        notes.append(f"memory ran out: micro-batches of {size} images, accumulate {state.parts}")
    if state.epoch < recipe.epochs:
        notes.append(f"stopped after {state.epoch} of {recipe.epochs} epochs: no better one for {recipe.patience}")
    return notes


def count_macs(model: nn.Module, image_size: int) -> int:
    """Multiply-accumulates of the convolutions and matrix products of one image at `image_size`, on any device."""
    model.eval()
    device = next(model.parameters()).device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, image_size, image_size, device=device))
    return counter.get_total_flops() // 2


def rounded(value: float | None) -> float | None:
    """Six significant places: enough to draw, few enough to read."""
    return None if value is None else float(f"{value:.6g}")
