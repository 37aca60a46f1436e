"""What a recipe may say, and what each profile may change of it."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, field_validator, model_validator

from stages.contracts.sections import Profile, Protocol, Section, Source
from stages.train.architectures import known_architecture
from stages.train.choices import Augment, Budget, Decay, Freeze, Head, Phase, Rate, Schedule, Share, Side

InitMissing = Literal["error", "random"]
"""What to do where ImageNet weights are asked for and none can be had."""

IMAGENET, RANDOM = "weights/imagenet", "weights/random"
"""Where a recipe may start, beside the model folder of another. Files of these names tell what they mean: DVC makes no
difference between a path that is not there and one that was forgotten, and each recipe's `start` is one of its deps."""

PARAMS_FILE = "params.yaml"
"""Where the values of a recipe are taken from, unless a search chooses some of them."""

Select = Literal["val_auroc", "val_balanced_accuracy", "val_accuracy", "val_loss"]

Figure = Annotated[float, Field(ge=0)]
"""A reported number: a share, a count in millions."""


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
    image_size: Side
    """Side of the square that the model sees, pixels."""
    view: Literal["squash", "crop"] = "squash"
    """Oblong images: the whole of them out of proportion, or the largest centred square."""
    start: str
    """weights/imagenet, weights/random, or another recipe's model folder: models/RECIPE."""
    values: str
    """params.yaml, or reports/tune/RECIPE.json: this very recipe with the values that its search has chosen."""
    init_sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """Pins the file of ImageNet weights."""
    head: Head | None = None
    """null: the architecture's own classifier."""
    freeze: Freeze = 0.0
    """What is not trained. BatchNorm and dropout of frozen parts stay in evaluation mode."""
    phases: list[Phase] = Field(default_factory=list)
    """One after the other, instead of `freeze` and `epochs`: train the head, unfreeze more, lower the rate."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adamw"
    """sgd has a momentum of 0.9."""
    lr: Rate = 0.001
    """Of a one-cycle schedule its peak, else the first after the warm-up."""
    weight_decay: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Not applied to biases and norms."""
    schedule: Schedule = "constant"
    decay: Decay = 1.0
    """Factor on the learning rate after each epoch, of the exponential schedule."""
    warmup: Annotated[float, Field(ge=0)] = 0.0
    """Epochs over which the rate climbs from nothing; onecycle has its own climb."""
    epochs: PositiveInt
    """Of all phases; need not be said where there are phases."""
    patience: PositiveInt | None = None
    """Epochs without a better figure after which a phase ends early; null: never."""
    batch_size: Annotated[int, Field(ge=2, le=65536)] = 64
    """Images of one step of the optimizer, over all devices."""
    accumulate: PositiveInt = 1
    """Micro-batches in which a step is computed, on each device; halved by themselves where memory runs out."""
    clip: Annotated[float, Field(gt=0)] | None = None
    """Longest gradient, by its norm over all weights."""
    ema: Share = 0.0
    """Share that the moving average of the weights keeps at each step; the average is validated and kept. 0: none."""
    sampler: Literal["natural", "weighted", "balanced"] = "natural"
    """weighted draws with replacement: classes evenly inside each source, sources by the root of their size; balanced
    draws each class of each source equally often."""
    loss: Literal["cross_entropy", "binary_cross_entropy", "focal"] = "cross_entropy"
    """binary_cross_entropy is of the sigmoid of malignant minus benign logit, as of a single output."""
    focal_gamma: Annotated[float, Field(gt=0, le=10)] = 2.0
    label_smoothing: Share = 0.0
    class_weights: bool = False
    """Weigh the loss by the inverse frequency with which the sampler delivers each class."""
    augment: Augment = Augment()
    mixup: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Both parameters of the beta distribution of each image's share; 0: none."""
    cutmix: Annotated[float, Field(ge=0, le=10)] = 0.0
    """Likewise. Where both are given, each image is treated by one of them at random."""
    dropout: Share = 0.0
    """Before the architecture's own classifier; a `head` has its own."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    channels_last: bool = True
    """How the network lies in memory: pixels together (quicker for convolutions) or planes."""
    compile: bool = False
    """torch.compile, which takes a minute to be quicker and needs a C++ compiler."""
    seed: Annotated[int, Field(ge=0)] = 20260101
    select: Select = "val_auroc"
    """Validation figure by which the best epoch is chosen; over sources, a mean by the root of their size."""
    budget: dict[Profile, Budget] = Field(default_factory=dict)
    """What a profile changes of this recipe, so that the demo stays small."""
    reported: dict[str, Figure] = Field(default_factory=dict)
    """What the original project reported."""

    @field_validator("arch")
    @classmethod
    def _known(cls, arch: str) -> str:
        return known_architecture(arch)

    @field_validator("sources")
    @classmethod
    def _once(cls, sources: list[Source]) -> list[Source]:
        if len(set(sources)) != len(sources):
            raise ValueError("a source is listed twice")
        return sources

    @field_validator("start")
    @classmethod
    def _somewhere(cls, start: str) -> str:
        if start not in (IMAGENET, RANDOM) and not re.fullmatch(r"models/[^/]+", start):
            raise ValueError(f"expected {IMAGENET}, {RANDOM} or models/RECIPE")
        return start

    @field_validator("values")
    @classmethod
    def _said_or_searched(cls, values: str) -> str:
        if values != PARAMS_FILE and not re.fullmatch(r"reports/tune/[^/]+\.json", values):
            raise ValueError(f"expected {PARAMS_FILE} or reports/tune/RECIPE.json")
        return values

    @model_validator(mode="before")
    @classmethod
    def _summed(cls, said: Any) -> Any:
        """Fill `epochs` in from the phases."""
        phases = said.get("phases") if isinstance(said, dict) else None
        if not isinstance(phases, list) or not phases:
            return said
        epochs = [one.get("epochs") if isinstance(one, dict) else getattr(one, "epochs", None) for one in phases]
        if not all(isinstance(one, int) for one in epochs):
            return said
        if said.get("epochs", sum(epochs)) != sum(epochs):
            raise ValueError(f"epochs = {said['epochs']}, but the phases have {sum(epochs)}; leave `epochs` out")
        return {**said, "epochs": sum(epochs)}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.task == "subtype" and "idc" in self.sources:
            raise ValueError("task: subtype needs subtypes, which idc does not have; set sources: [breakhis]")
        folded = self.protocol in ("kfold", "published")
        if folded and self.fold == 0:
            raise ValueError(f"protocol: {self.protocol} has folds; set fold: 1, 2, ...")
        if not folded and self.fold != 0:
            raise ValueError(f"protocol: {self.protocol} has no folds; leave `fold` out")
        if self.loss == "binary_cross_entropy" and self.task != "binary":
            raise ValueError("loss: binary_cross_entropy needs task: binary; set loss: cross_entropy")
        if self.phases and self.freeze != 0:
            raise ValueError("freeze stands in the phases where there are some; leave the recipe's out")
        if self.head and self.dropout:
            raise ValueError("dropout is of the architecture's own classifier; set head.dropout")
        if self.init_sha256 and self.start != IMAGENET:
            raise ValueError(f"init_sha256 pins ImageNet weights; set start: {IMAGENET}")
        if self.accumulate > self.batch_size // 2:
            raise ValueError(f"accumulate: {self.accumulate} leaves less than two images for a micro-batch")
        for phase in stretches(self):
            _check_schedule(phase)
        return self


def _check_schedule(phase: Phase) -> None:
    if phase.schedule == "exponential" and phase.decay == 1:
        raise ValueError("schedule: exponential needs a decay below 1, such as decay: 0.95")
    if phase.schedule != "exponential" and phase.decay != 1:
        raise ValueError(f"decay belongs to schedule: exponential, not to {phase.schedule}")
    if phase.schedule == "onecycle" and phase.warmup:
        raise ValueError("schedule: onecycle has a climb of its own; leave `warmup` out")
    if phase.warmup is not None and phase.warmup > phase.epochs:
        raise ValueError(f"warmup: {phase.warmup:g} is longer than the {phase.epochs} epochs")


def stretches(recipe: Recipe) -> list[Phase]:
    """The phases of a training with every field filled in; one for a recipe that names none."""
    phases = recipe.phases or [Phase(epochs=recipe.epochs, freeze=recipe.freeze)]
    inherited = ("lr", "schedule", "decay", "warmup")
    return [
        phase.model_copy(update={key: getattr(recipe, key) for key in inherited if getattr(phase, key) is None})
        for phase in phases
    ]


class TrainProfile(Section):
    """What a profile changes of every recipe."""

    init_missing: InitMissing
    epochs: PositiveInt | None = None
    """Instead of each recipe's own; null keeps it. A recipe's `budget` goes before."""
    features_gb: Annotated[float, Field(ge=0)] = 4.0
    """Most memory for the features of frozen parts, which are then computed once, on each device; 10^9 bytes."""
    accelerator: Literal["auto", "cpu", "cuda"] = "auto"
    """auto: GPUs where there are some."""
    devices: PositiveInt = 1
    """Of one machine, each with a process of its own and its share of every step. On a CPU a device is a process."""
    num_nodes: PositiveInt = 1
    """Machines that train together."""
    strategy: Literal["auto", "ddp"] = "auto"
    """How several devices share the work: data-parallel; auto is that where there are several."""


def within_budget(recipe: Recipe, profile: Profile, common: TrainProfile) -> Recipe:
    """The recipe as a profile runs it. common: what the profile changes of every recipe."""
    own = recipe.budget.get(profile, Budget())
    said = recipe.model_dump()
    if own.image_size:
        said["image_size"] = own.image_size
    epochs = own.epochs or common.epochs
    if epochs:
        said["epochs"] = epochs
        for phase in said["phases"]:
            phase["epochs"] = max(1, round(phase["epochs"] * epochs / recipe.epochs))
            # A short phase cannot climb longer than it lasts.
            phase["warmup"] = phase["warmup"] and min(phase["warmup"], phase["epochs"])
        said["warmup"] = min(said["warmup"], *(phase["epochs"] for phase in said["phases"] or [said]))
    if said["phases"]:
        del said["epochs"]
    return Recipe.model_validate(said)


SECTIONS: dict[str, Any] = {
    "recipes.*": Recipe,
    "profiles.*.train": TrainProfile,
    "threads": PositiveInt,
    "weights_dir": Path | None,
}
