"""What a training needs before its first step, from params.yaml and the files that it names; a search needs it too."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stages.contracts.files import read_json, sha256_of
from stages.contracts.index import index_path, read_index
from stages.contracts.modelfolder import Skipped, read_record
from stages.contracts.pixels import open_pixels
from stages.contracts.sections import Params, Profile, params_root, section
from stages.train.params import IMAGENET, PARAMS_FILE, RANDOM, Recipe, TrainProfile

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from stages.train.training import Surroundings

PIXELS = Path("data/pixels")


@dataclass(frozen=True)
class Ready:
    """All that a training reads beside its recipe."""

    rows: "pd.DataFrame"
    """Of one fold of the index."""
    stores: Mapping[str, "np.ndarray"]
    around: "Surroundings"
    profile: TrainProfile


def open_stores(recipe: Recipe) -> Mapping[str, "np.ndarray"]:
    """The mapped pixel store of each source of the recipe."""
    return {source: open_pixels(PIXELS / f"{source}.npy") for source in recipe.sources}


def recipe_of(params: Params, name: str) -> Recipe:
    """The recipe `name` with the values that hold for it: those of params.yaml, or those that a search has chosen."""
    recipe = section(params, f"recipes.{name}", Recipe)
    if recipe.values == PARAMS_FILE:
        return recipe
    return section(read_json(Path(recipe.values)), f"recipes.{name}", Recipe)


def ready_for(params: Params, name: str, recipe: Recipe) -> Ready | str:
    """What a training of `recipe` reads, or the reason why there is nothing to train."""
    profile = section(params, f"profiles.{section(params, 'profile', Profile)}.train", TrainProfile)
    index = index_path(recipe.protocol)
    rows, metadata = read_index(index, recipe.fold)
    parent = None if recipe.start in (IMAGENET, RANDOM) else read_record(Path(recipe.start))
    if not set(recipe.sources) & set(rows.loc[rows["split"] == "train", "source"]):
        return f"no training image of {' or '.join(recipe.sources)}"
    if isinstance(parent, Skipped):
        return f"it starts from {parent.recipe}, which was not run: {parent.reason}"

    from stages.train.training import Surroundings
    from stages.train.weights import weight_folders

    named = section(params, "weights_dir", Path | None)
    around = Surroundings(
        name=name,
        threads=section(params, "threads", int),
        weight_folders=weight_folders(named and params_root(os.environ) / named, os.environ.get("STROMA_WEIGHTS")),
        init_missing=profile.init_missing,
        data=metadata["data"],
        index_sha256=sha256_of(index),
        features_gb=profile.features_gb,
        parent=parent,
    )
    return Ready(rows, open_stores(recipe), around, profile)
