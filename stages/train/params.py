"""What a recipe may say, and what each profile may change of it."""

import difflib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from stages.contracts.sections import Protocol, Section, Source

Share = Annotated[float, Field(ge=0, lt=1)]
InitMissing = Literal["error", "random"]
"""What to do where ImageNet weights are asked for and none can be had."""

Figure = Annotated[float, Field(ge=0)]
"""A reported number: a share, a count in millions."""


class Augment(Section):
    """How a training image may be changed. Each image of a batch gets its own draw."""

    eightfold: bool = False
    """The eight flips and quarter turns of a square; tissue has no up. Of an oblong image, the four that keep it so."""
    flip: bool = False
    """Left-right mirror, half of the time."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest angle to either side, degrees."""
    zoom: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Largest change of scale: 0.2 shows 1/1.2 to 1.2 times the view."""
    stain: Share = 0.0
    """Largest relative change of the amount of hematoxylin, eosin and residual, each drawn by itself."""


class Recipe(Section):
    """One model: what it reproduces, what it is trained on and how. `reported` is shown, never used."""

    reproduces: str | None = None
    """The original project, as docs name it."""
    arch: str
    """A timm model, with or without its tag of pretrained weights, or one of contracts/networks."""
    sources: Annotated[list[Source], Field(min_length=1)]
    task: Literal["binary", "subtype"]
    protocol: Protocol
    fold: Annotated[int, Field(ge=0, le=127)] = 0
    """Which fold of `kfold` or `published`, from 1; 0 for the protocols without folds."""
    image_size: Annotated[int, Field(ge=8, le=1024)]
    """Side of the square that the model sees, pixels."""
    view: Literal["squash", "crop"] = "squash"
    """Oblong images: the whole of them out of proportion, or the largest centred square."""
    init: Literal["imagenet", "random"] = "imagenet"
    init_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Pins the file of start weights."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    lr: Annotated[float, Field(gt=0, le=10)] = 0.001
    """Of a one-cycle schedule its peak, else the first."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Not applied to biases and norms."""
    schedule: Literal["constant", "cosine", "onecycle", "exponential"] = "constant"
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Factor on the learning rate after each epoch, of the exponential schedule."""
    epochs: PositiveInt
    batch_size: Annotated[int, Field(ge=2, le=65536)] = 64
    sampler: Literal["natural", "weighted"] = "natural"
    """weighted draws with replacement: classes evenly inside each source, sources by the root of their size."""
    class_weights: bool = False
    """Weigh the loss by the inverse frequency with which the sampler delivers each class."""
    augment: Augment = Augment()
    dropout: Share = 0.0
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    seed: Annotated[int, Field(ge=0)] = 20260101
    select: Literal["val_auroc", "val_balanced_accuracy", "val_loss"] = "val_auroc"
    """Validation figure by which the best epoch is chosen; over sources, a mean by the root of their size."""
    reported: dict[str, Figure] = Field(default_factory=dict)
    """What the original project reported."""

    @field_validator("arch")
    @classmethod
    def _known(cls, arch: str) -> str:
        if arch.partition(".")[0] not in architectures():
            close = difflib.get_close_matches(arch, sorted(architectures()), n=3)
            meant = f"; did you mean {' or '.join(map(repr, close))}?" if close else ""
            raise ValueError(f"not one of the {len(architectures()):,} names in timm and contracts/networks{meant}")
        return arch

    @field_validator("sources")
    @classmethod
    def _once(cls, sources: list[Source]) -> list[Source]:
        if len(set(sources)) != len(sources):
            raise ValueError("a source is listed twice")
        return sources

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.task == "subtype" and "idc" in self.sources:
            raise ValueError("task: subtype needs subtypes, which idc does not have; set sources: [breakhis]")
        folded = self.protocol in ("kfold", "published")
        if folded and self.fold == 0:
            raise ValueError(f"protocol: {self.protocol} has folds; set fold: 1, 2, ...")
        if not folded and self.fold != 0:
            raise ValueError(f"protocol: {self.protocol} has no folds; leave `fold` out")
        if self.schedule == "exponential" and self.decay == 1:
            raise ValueError("schedule: exponential needs a decay below 1, such as decay: 0.95")
        if self.schedule != "exponential" and self.decay != 1:
            raise ValueError(f"decay belongs to schedule: exponential, not to {self.schedule}")
        return self


class TrainProfile(Section):
    """What a profile changes of every recipe."""

    init_missing: InitMissing
    epochs: PositiveInt | None = None
    """Instead of each recipe's own; null keeps it."""


SECTIONS: dict[str, Any] = {
    "recipes.*": Recipe,
    "profiles.*.train": TrainProfile,
    "threads": PositiveInt,
    "weights_dir": Path | None,
}


@cache
def architectures() -> frozenset[str]:
    """Every name that timm's registry and our own networks hold, read from their sources.

    Importing timm to ask it takes seconds of torch; the decorated functions in its files say the same in 40 ms.
    tests/train holds this against timm.list_models().
    """
    spec = find_spec("timm")
    files = [Path(__file__).parents[1] / "contracts" / "networks.py"]
    if spec is not None and spec.origin is not None:
        files += sorted((Path(spec.origin).parent / "models").rglob("*.py"))
    registered = re.compile(r"^@register_model\s*\ndef (\w+)\(", re.MULTILINE)
    return frozenset(name for file in files for name in registered.findall(file.read_text(encoding="utf-8")))
