"""What a picture sheet shows of a recipe: which images, and what training would make of them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from PIL import Image

from stages.contracts.modelfolder import normalising
from stages.train.batches import Batches, class_names, load_corpus
from stages.train.mixing import mixed
from stages.train.moments import moment
from stages.train.params import PARAMS_FILE, RANDOM, Recipe
from stages.train.picture import Sheet, drawn_sheet

DRAWS = 8
SINGLE = {
    "flip": {"augment": {"flip": True}},
    "flip_vertical": {"augment": {"flip_vertical": True}},
    "eightfold": {"augment": {"eightfold": True}},
    "rotate": {"augment": {"rotate": 20}},
    "zoom": {"augment": {"zoom": 0.2}},
    "stain": {"augment": {"stain": 0.2}},
    "mixup": {"mixup": 0.4},
    "cutmix": {"cutmix": 1.0},
    "several": {"augment": {"eightfold": True, "rotate": 20, "zoom": 0.2, "stain": 0.2}},
}
"""Each augmentation by itself, about as strong as recipes ask for, and those that are often used together."""
SIZE = 96
"""Of their images, pixels."""


def each_augmentation(sources: Sequence[str], protocol: str) -> dict[str, Recipe]:
    """A recipe for each augmentation that has no other."""
    folded = {"fold": 1} if protocol in ("published", "kfold") else {}
    plain = {
        "arch": "baseline_cnn", "sources": sources, "task": "binary", "protocol": protocol, "image_size": SIZE,
        "start": RANDOM, "values": PARAMS_FILE, "epochs": 1, **folded,
    }  # fmt: skip
    return {name: Recipe.model_validate({**plain, **changes}) for name, changes in SINGLE.items()}


def sheet_of(
    title: str, recipe: Recipe, rows: pd.DataFrame, stores: Mapping[str, np.ndarray], data: str
) -> Image.Image:
    """The sheet of a recipe.

    rows: training rows of an index. stores: source -> mapped pixel store. data: "demo" or what else they are.
    """
    chosen = pd.concat([few_of(rows[rows["source"] == source]) for source in recipe.sources])
    names = class_names(recipe.task)
    classes = [names[label] for label in chosen["label"]]
    images, captions = shown(recipe, chosen, stores)
    return drawn_sheet(
        Sheet(
            title=title,
            notes=[
                f"{told(recipe)}, at {recipe.image_size} x {recipe.image_size} pixels",
                f"training images ({data}); columns: what steps 1-{DRAWS} of the first epoch would draw for them",
                *(["mixed with the opposite of the batch, here of the sheet: the first row with the last; "
                   "under each image, how much of it is its own"]
                  if captions else []),
            ],
            columns=["as is", *map(str, range(1, DRAWS + 1))],
            rows=[f"{source}\n{label}" for source, label in zip(chosen["source"], classes, strict=True)],
            groups=[recipe.sources.index(source) for source in chosen["source"]],
            images=images,
            captions=captions,
        )
    )  # fmt: skip


def few_of(rows: pd.DataFrame) -> pd.DataFrame:
    """Images to look at: of each label two cases, and of each the image with most tissue."""
    picked = []
    for _, held in rows.groupby("label", sort=True):
        cases = held.sort_values(["blank", "image_id"]).groupby("case_id", sort=True).head(1).sort_values("case_id")
        places = np.unique(np.linspace(0, len(cases) - 1, 2).round().astype(int))
        picked.append(cases.iloc[places])
    return pd.concat(picked)


def shown(
    recipe: Recipe, rows: pd.DataFrame, stores: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, list[list[str]] | None]:
    """Images uint8 (1 + DRAWS, rows, S, S, 3), as they are and as drawn; how much each kept of itself where mixed."""
    corpus = load_corpus(rows, stores, recipe, recipe.augment)
    unchanged = normalising(recipe.image_size, recipe.view, (0.0,) * 3, (1.0,) * 3)
    batches = Batches(corpus, unchanged, recipe.image_size, recipe.augment, torch.device("cpu"))
    places = np.arange(len(rows))
    columns, captions = [_pixels(batches(places)[0])], [[""] * len(rows)]
    for step in range(DRAWS):
        at = moment(recipe, 0, step, len(rows))
        images, _ = batches(places, at.draws)
        if at.mixing:
            # Were each image a class of its own, its share of that class would be what it kept of itself.
            images, shares = mixed(images, torch.from_numpy(places), len(places), at.mixing)
            captions.append([f"{own:.0%}" for own in shares.diagonal().tolist()])
        columns.append(_pixels(images))
    return np.stack(columns), captions if recipe.mixup or recipe.cutmix else None


def _pixels(images: torch.Tensor) -> np.ndarray:
    return (images.permute(0, 2, 3, 1) * 255).round().clamp(0, 255).to(torch.uint8).numpy().copy()


def told(recipe: Recipe) -> str:
    """What the recipe says of augmentation, in words."""
    augment = recipe.augment
    parts = [
        "eightfold: flips and quarter turns (oblong images: those that keep them so)" if augment.eightfold else "",
        "left-right mirror" if augment.flip and not augment.eightfold else "",
        "top-bottom mirror" if augment.flip_vertical and not augment.eightfold else "",
        f"rotation by up to {augment.rotate:g} degrees" if augment.rotate else "",
        f"zoom by up to {1 + augment.zoom:g}" if augment.zoom else "",
        f"stain amounts changed by up to {augment.stain:.0%}" if augment.stain else "",
        f"mixup of beta({recipe.mixup:g}, {recipe.mixup:g})" if recipe.mixup else "",
        f"cutmix of beta({recipe.cutmix:g}, {recipe.cutmix:g})" if recipe.cutmix else "",
    ]
    return "; ".join(part for part in parts if part)
