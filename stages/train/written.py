"""What each process of a training does, from the pixel stores to the files; here and not in the door, as processes that
are started by another can only be given what a module holds.
"""

import pandas as pd
from lightning_fabric import Fabric

from stages.contracts.modelfolder import model_folder, save_model
from stages.train.curves import curves_path, write_curves
from stages.train.params import Recipe
from stages.train.ready import open_stores
from stages.train.training import Surroundings, Trained, train_recipe


def train_and_write(fabric: Fabric, *, recipe: Recipe, rows: pd.DataFrame, around: Surroundings) -> str:
    """Train; the first process writes the model folder and the curves. rows: of one fold of the recipe's index."""
    trained = train_recipe(recipe, rows, open_stores(recipe), around, fabric)
    if trained.checkpoint is None:
        return f"machine {fabric.node_rank} did its share; machine 0 writes the model"
    write_curves(trained.curves, curves_path(around.name))
    save_model(trained.model, trained.record, model_folder(around.name))
    trained.checkpoint.clear()
    return closing(trained)


def closing(trained: Trained) -> str:
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
