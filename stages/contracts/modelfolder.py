"""The model folder `models/<recipe>/`: what train hands to evaluate, export and compare.

config.json and model.safetensors are timm's own `local-dir:` layout; recipe.json is our record of how they were made.
A recipe that could not be trained leaves skipped.json alone. Nothing here is a pickle. torch and timm are imported
inside the functions that need them, so that a room which only reads the record stays light.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict

from stages.contracts.errors import StageError
from stages.contracts.files import appearing, read_json, write_json

if TYPE_CHECKING:
    import torch

RECORD = "recipe.json"
WEIGHTS = "model.safetensors"
SKIPPED = "skipped.json"
SCHEMA_VERSION = 1

View = Literal["squash", "crop"]
"""How an oblong image becomes a square one: the whole of it out of proportion, or its largest centred square."""


CACHED_FLOATS = 1 << 18
"""So many pixels are normalised at a time: they stay in the cache over the three passes."""


class Start(BaseModel):
    """What the weights were before training: where they came from, and their file's sha256 if there was one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    init: str
    """imagenet, random, or the recipe whose weights were taken."""
    sha256: str | None = None
    note: str | None = None


class ModelRecord(BaseModel):
    """recipe.json: all that is needed to use a trained model, and to say how it came about. No clock, host or path."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = SCHEMA_VERSION
    recipe: str
    settings: dict[str, Any]
    """The recipe as it stood in params.yaml, defaults filled in."""
    class_names: list[str]
    """In the order of the logits."""
    untrained_classes: list[str] = []
    """Classes that had no training image."""
    sources: list[str]
    """Data sets it was trained on."""
    missing_sources: list[str]
    """Data sets the recipe asks for that had no training image."""
    data: Literal["demo", "real sample", "full"]
    protocol: str
    fold: int
    image_size: int
    """Side of the model's square input, pixels."""
    view: View
    mean: list[float]
    """Per channel, of pixels scaled to 0-1."""
    std: list[float]
    index_sha256: str
    params_sha256: str
    start: Start
    parameters: int
    trained_parameters: int
    """Of the phase that trained most."""
    notes: list[str] = []
    """What the training had to do otherwise than the recipe says."""
    macs: int
    """Multiply-accumulates of one image at image_size."""
    train_images: int
    val_images: int
    epochs: int
    best_epoch: int
    """1-based; its weights are the ones kept."""
    best: dict[str, float | None]
    """Validation figures of that epoch."""
    threads: int


class Skipped(BaseModel):
    """skipped.json: a recipe that was not run, and why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: str
    reason: str
    settings: dict[str, Any]


def model_folder(recipe: str) -> Path:
    """Where the model of `recipe` lies."""
    return Path("models") / recipe


def read_record(folder: Path) -> ModelRecord | Skipped:
    """The record of a trained model, or of one that was skipped. Raises StageError where there is neither."""
    skipped = folder / SKIPPED
    if skipped.exists():
        return Skipped.model_validate(read_json(skipped))
    return ModelRecord.model_validate(read_json(folder / RECORD))


def write_skipped(skipped: Skipped, folder: Path) -> None:
    """Write a folder that says why there is no model in it."""
    with appearing(folder) as part:
        part.mkdir()
        write_json(skipped.model_dump(mode="json"), part / SKIPPED)


def save_model(model: "torch.nn.Module", record: ModelRecord, folder: Path) -> None:
    """Write the model folder, whole or not at all.

    Plain `timm.create_model("local-dir:FOLDER", pretrained=True)` reads it. model: built by timm.create_model. It is
    moved to the CPU and to contiguous memory, which is how safetensors writes.
    """
    import torch
    from timm.models import save_for_hf

    model.to(device="cpu", memory_format=torch.contiguous_format)
    data_config = {
        "input_size": (3, record.image_size, record.image_size),
        "mean": tuple(record.mean),
        "std": tuple(record.std),
        "interpolation": "bilinear",
        "crop_pct": 1.0,
        "crop_mode": "squash" if record.view == "squash" else "center",
    }
    with appearing(folder) as part:
        save_for_hf(
            model,
            part,
            model_config={"label_names": record.class_names},
            safe_serialization=True,
            data_config=data_config,
        )
        write_json(record.model_dump(mode="json"), part / RECORD)


def load_model(folder: Path) -> tuple["torch.nn.Module", ModelRecord]:
    """The trained model in evaluation mode on the CPU, and its record.

    Raises StageError where the recipe was skipped or the folder is not one that train wrote.
    """
    import timm
    from safetensors import SafetensorError

    from stages.contracts import networks  # noqa: F401  registers our own architectures

    record = read_record(folder)
    if isinstance(record, Skipped):
        raise StageError(f"{folder} holds no model: {record.recipe} was not run ({record.reason})")
    # Without pretrained=True timm builds the network, loads no weights and says nothing.
    try:
        model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except (OSError, RuntimeError, ValueError, SafetensorError) as error:
        raise StageError(f"{folder} cannot be loaded ({error}); run `dvc repro -f train@{record.recipe}`") from error
    return model.eval(), record


def prepare(record: ModelRecord) -> Callable[["torch.Tensor"], "torch.Tensor"]:
    """The one way from stored pixels to the model's input: train, evaluate and export all use what this returns.

    The returned function takes uint8 (n, height, width, 3) on any device and gives float32 (n, 3, S, S), normalised,
    channels last in memory.
    """
    return normalising(record.image_size, record.view, record.mean, record.std)


def normalising(size: int, view: View, mean: Sequence[float], std: Sequence[float]) -> Callable[..., "torch.Tensor"]:
    """`prepare` for a model that has no record yet. size: side in pixels; mean, std: per channel, of 0-1 pixels.

    The returned function takes a second argument, None or a float32 buffer (at least n, S, S, 3) to work in: fresh
    memory costs more than the arithmetic (3,400 against 20,000 images/s at 224 px). A caller that gives one uses what
    it got before the next call.
    """
    import torch

    # One row of factors for a whole image row: an inner axis of 3 would keep the arithmetic from being vectorised.
    scale = torch.tensor([1 / (255 * one) for one in std]).repeat(size)
    shift = torch.tensor([-middle / one for middle, one in zip(mean, std, strict=True)]).repeat(size)

    def prepared(batch: torch.Tensor, buffer: torch.Tensor | None = None) -> torch.Tensor:
        stored = resized(batch, size, view)
        if buffer is None:
            buffer = torch.empty(stored.shape, dtype=torch.float32, device=stored.device)
        pixels = buffer[: len(stored)]
        factor, offset = scale.to(stored.device), shift.to(stored.device)
        few = max(1, CACHED_FLOATS // (3 * size * size)) if stored.device.type == "cpu" else max(1, len(stored))
        for part, of in zip(pixels.split(few), stored.split(few), strict=True):
            part.copy_(of).view(-1, size * 3).mul_(factor).add_(offset)
        return pixels.permute(0, 3, 1, 2)

    return prepared


def resized(batch: "torch.Tensor", size: int, view: View) -> "torch.Tensor":
    """uint8 (n, height, width, 3) -> uint8 (n, size, size, 3), by antialiased bilinear resampling on an 8-bit grid.

    squash takes the whole image, aspect lost; crop takes the largest centred square. An image that has the size already
    is returned as it is, so that applying this twice equals applying it once.
    """
    return resampled(cropped(batch) if view == "crop" else batch, size, size)


def cropped(batch: "torch.Tensor") -> "torch.Tensor":
    """The largest centred square of each image: (n, height, width, 3) -> (n, side, side, 3), a view."""
    height, width = batch.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return batch[:, top : top + side, left : left + side]


def resampled(batch: "torch.Tensor", height: int, width: int) -> "torch.Tensor":
    """uint8 (n, any, any, 3) -> uint8 (n, height, width, 3), antialiased bilinear, rounded to 8 bits."""
    import torch
    from torch.nn.functional import interpolate

    if batch.shape[1:3] == (height, width):
        return batch
    # A batch of interleaved pixels is torch's channels_last once its axes are renamed: no copy, and on a CPU the
    # vectorised 8-bit path. Other devices resample floats and round back to the same grid.
    planes = batch.permute(0, 3, 1, 2)
    if batch.device.type == "cpu":
        planes = interpolate(planes, (height, width), mode="bilinear", antialias=True)
    else:
        planes = interpolate(planes.to(torch.float32), (height, width), mode="bilinear", antialias=True)
        planes = planes.round_().clamp_(0, 255).to(torch.uint8)
    return planes.permute(0, 2, 3, 1)
