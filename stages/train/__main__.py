"""The door of train: `python -m stages.train RECIPE`."""

import os
from functools import partial
from pathlib import Path

from stages.contracts.door import enter
from stages.contracts.sections import Params, Profile, params_root, section


def work(params: Params, name: str) -> str:
    """Train the recipe `name`, or say why it cannot be; write its model folder and its curves."""
    from stages.contracts.files import sha256_of
    from stages.contracts.index import index_path, read_index
    from stages.contracts.modelfolder import Skipped, model_folder, read_record, write_skipped
    from stages.train.curves import curves_path, write_curves
    from stages.train.params import IMAGENET, RANDOM, Recipe, TrainProfile, within_budget

    chosen = section(params, "profile", Profile)
    profile = section(params, f"profiles.{chosen}.train", TrainProfile)
    recipe = within_budget(section(params, f"recipes.{name}", Recipe), chosen, profile)
    index = index_path(recipe.protocol)
    rows, metadata = read_index(index, recipe.fold)
    parent = None if recipe.start in (IMAGENET, RANDOM) else read_record(Path(recipe.start))

    reason = None
    if not set(recipe.sources) & set(rows.loc[rows["split"] == "train", "source"]):
        reason = f"no training image of {' or '.join(recipe.sources)}"
    elif isinstance(parent, Skipped):
        reason = f"it starts from {parent.recipe}, which was not run: {parent.reason}"
    if reason:
        write_skipped(Skipped(recipe=name, reason=reason, settings=recipe.model_dump(mode="json")), model_folder(name))
        write_curves([], curves_path(name))
        return f"not run: {reason}"

    from stages.train.devices import fabric_of, launched
    from stages.train.training import Surroundings
    from stages.train.weights import weight_folders
    from stages.train.written import train_and_write

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
    done = partial(train_and_write, recipe=recipe, rows=rows, around=around)
    return launched(fabric_of(profile, recipe.precision), done)


if __name__ == "__main__":
    enter("train", work, argument="recipe")
