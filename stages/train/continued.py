"""Start weights that another recipe learned: its model folder, taken up as it was written."""

from pathlib import Path

import timm
from safetensors import SafetensorError
from torch import nn

from stages.contracts.errors import StageError
from stages.contracts.files import sha256_of
from stages.contracts.modelfolder import WEIGHTS, ModelRecord, Start
from stages.train.params import Recipe
from stages.train.weights import StartModel, redraw


def continued(recipe: Recipe, classes: tuple[str, ...], record: ModelRecord, index_sha256: str) -> StartModel:
    """The network that `record` tells of, from the recipe's `start`, with a new last layer where its classes differ.

    index_sha256: of the recipe's index. Raises StageError where the two recipes differ in architecture or head, or in
    the split: a case that the first was trained on might be scored by the second.
    """
    folder = Path(recipe.start)
    _check(recipe, record, index_sha256)
    options = {} if recipe.head else {"drop_rate": recipe.dropout}
    config = timm.get_pretrained_cfg(recipe.arch, allow_unregistered=True)
    if config is not None and config.fixed_input_size:
        options["img_size"] = recipe.image_size
    try:
        model = timm.create_model(f"local-dir:{folder}", pretrained=True, **options)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise StageError(f"{folder} cannot be loaded ({error}); run `dvc repro -f train@{record.recipe}`") from error
    if tuple(record.class_names) != classes:
        model.reset_classifier(len(classes))
        redraw(model.get_classifier())
    if recipe.head:
        _set_dropout(model.hidden, recipe.head.dropout)
    note = f"{record.recipe}: {record.start.note}" if record.start.note else None
    start = Start(init=record.recipe, sha256=sha256_of(folder / WEIGHTS), note=note)
    return StartModel(model, start, tuple(record.mean), tuple(record.std))


def _check(recipe: Recipe, record: ModelRecord, index_sha256: str) -> None:
    head = recipe.head.model_dump(mode="json")["hidden"] if recipe.head else None
    given = (record.settings.get("head") or {}).get("hidden")
    for what, own, other in (("arch", recipe.arch, record.settings["arch"]), ("head.hidden", head, given)):
        if own != other:
            raise StageError(f"{recipe.start} has {what} {other}, the recipe {own}; make them equal")
    if (record.index_sha256, record.fold) != (index_sha256, recipe.fold):
        raise StageError(
            f"{recipe.start} was trained on another split (protocol {record.protocol}, fold {record.fold}); a case it "
            "has seen might be scored here: give both recipes one protocol and fold"
        )


def _set_dropout(hidden: nn.Sequential, dropout: float) -> None:
    """A model folder does not keep it."""
    for module in hidden:
        if isinstance(module, nn.Dropout):
            module.p = dropout
