"""The door of train: `python -m stages.train RECIPE`."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from stages.contracts.door import enter
from stages.contracts.sections import Params, Profile, params_root, section

if TYPE_CHECKING:
    from stages.train.training import Trained


def work(params: Params, name: str) -> str:
    """Train the recipe `name`, or say why it cannot be; write its model folder and its curves."""
    from stages.contracts.files import sha256_of
    from stages.contracts.index import index_path, read_index
    from stages.contracts.modelfolder import Skipped, model_folder, read_record, save_model, write_skipped
    from stages.contracts.pixels import open_pixels
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

    from stages.train.training import Surroundings, train_recipe
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
    stores = {source: open_pixels(Path("data/pixels") / f"{source}.npy") for source in recipe.sources}
    trained = train_recipe(recipe, rows, stores, around)
    write_curves(trained.curves, curves_path(name))
    save_model(trained.model, trained.record, model_folder(name))
    trained.checkpoint.clear()
    return closing(trained)


def closing(trained: "Trained") -> str:
    """The sentence that says what was trained, how well by val, how fast, and what was lacking."""
    record = trained.record
    auroc = record.best["val_auroc"]
    said = [
        f"{record.epochs} epochs on {record.train_images:,} images of {', '.join(record.sources)}",
        f"best epoch {record.best_epoch}",
        f"val AUROC {'undefined' if auroc is None else f'{auroc:.3f}'}",
        f"{trained.images_per_s:,.0f} images/s",
        f"{record.trained_parameters / 1e6:,.2f} of {record.parameters / 1e6:,.2f} M parameters trained",
        *trained.said,
        *record.notes,
    ]
    if record.missing_sources:
        said.append(f"without {', '.join(record.missing_sources)}")
    if record.untrained_classes:
        said.append(f"no training image of {', '.join(record.untrained_classes)}")
    if record.start.note:
        said.append(record.start.note)
    return "; ".join(said)


if __name__ == "__main__":
    enter("train", work, argument="recipe")
