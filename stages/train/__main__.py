"""The door of train: `python -m stages.train RECIPE`."""

from typing import TYPE_CHECKING

from stages.contracts.door import enter
from stages.contracts.sections import Params, Profile, section

if TYPE_CHECKING:
    from stages.train.training import Trained


def work(params: Params, name: str) -> str:
    """Train the recipe `name`, or say why it cannot be; write its model folder and its curves."""
    from stages.contracts.modelfolder import Skipped, model_folder, save_model, write_skipped
    from stages.train.curves import curves_path, write_curves
    from stages.train.params import TrainProfile, within_budget
    from stages.train.ready import ready_for, recipe_of

    chosen = section(params, "profile", Profile)
    profile = section(params, f"profiles.{chosen}.train", TrainProfile)
    recipe = within_budget(recipe_of(params, name), chosen, profile)
    ready = ready_for(params, name, recipe)
    if isinstance(ready, str):
        write_skipped(Skipped(recipe=name, reason=ready, settings=recipe.model_dump(mode="json")), model_folder(name))
        write_curves([], curves_path(name))
        return f"not run: {ready}"

    from stages.train.training import train_recipe

    trained = train_recipe(recipe, ready.rows, ready.stores, ready.around)
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
