"""The parts of a recipe that have fields of their own: augmentation, head, phases, budgets."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt

from stages.contracts.sections import Section

Share = Annotated[float, Field(ge=0, lt=1)]
Side = Annotated[int, Field(ge=8, le=1024)]
"""Of a square image, pixels."""
Rate = Annotated[float, Field(gt=0, le=10)]
"""A learning rate."""
Decay = Annotated[float, Field(gt=0, le=1)]
Schedule = Literal["constant", "cosine", "onecycle", "exponential"]


def _what_to_freeze(value: Any) -> Any:
    shares = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
    if not shares and not (isinstance(value, str) and value):
        raise ValueError("expected a share of the layers from 0 to below 1, the name of a layer or block, or all")
    return value


Freeze = Annotated[float | str, BeforeValidator(_what_to_freeze)]
"""What keeps its start weights, from the input on: a share of the layers (0.56: 150 of 268), everything up to and with
the layer or block of that name as timm calls it (blocks.3), or `all`: everything but the head."""


class Augment(Section):
    """How a training image may be changed. Each image of a batch gets its own draw."""

    eightfold: bool = False
    """The eight flips and quarter turns of a square; tissue has no up. Of an oblong image, the four that keep it so."""
    flip: bool = False
    """Left-right mirror, half of the time."""
    flip_vertical: bool = False
    """Top-bottom mirror, half of the time."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    """Largest angle to either side, degrees."""
    zoom: Share = 0.0
    """Largest change of scale: 0.2 shows 1/1.2 to 1.2 times the view."""
    stain: Share = 0.0
    """Largest relative change of the amount of hematoxylin, eosin and residual, each drawn by itself."""


class Head(Section):
    """Fully connected layers of our own in place of the architecture's classifier."""

    hidden: Annotated[list[PositiveInt], Field(min_length=1, max_length=8)]
    """Width of each hidden layer; ReLU after each."""
    dropout: Share = 0.0
    """After each hidden layer."""


class Phase(Section):
    """A stretch of a training with its own frozen part. What is null is the recipe's."""

    epochs: PositiveInt
    freeze: Freeze = 0.0
    lr: Rate | None = None
    schedule: Schedule | None = None
    """Runs its course inside the phase."""
    decay: Decay | None = None
    warmup: Annotated[float, Field(ge=0)] | None = None


class Budget(Section):
    """What a profile changes of one recipe."""

    epochs: PositiveInt | None = None
    """In all; phases keep their shares of it, at least one epoch each."""
    image_size: Side | None = None
