"""What the room reads of params.yaml: the names of the recipes, and what the gate asks of a challenger."""

from typing import Annotated, Any

from pydantic import Field

from stages.contracts.sections import Section

Share = Annotated[float, Field(ge=0, le=1)]
Margin = Annotated[float, Field(ge=0, lt=1)]


class Retrain(Section):
    """Section `retrain`: which recipes may replace a champion."""

    recipes: Annotated[list[str], Field(min_length=1)]
    """Of each task the one that is best on val is held against the champion."""


class Floor(Section):
    """What a first champion must reach on each data set."""

    balanced_accuracy: Share
    sensitivity: Share


class Floors(Section):
    """By task."""

    binary: Floor
    subtype: Floor

    def of(self, task: str) -> Floor:
        """The floor of binary or subtype."""
        return self.subtype if task == "subtype" else self.binary


class Budget(Section):
    """The most that a champion may cost; null: no limit."""

    size_mb: Annotated[float, Field(gt=0)] | None
    """Of the weights, 10^6 bytes."""
    latency_ms: Annotated[float, Field(gt=0)] | None
    """Of one image, where reports/cost/<recipe>.json holds it."""


class GateParams(Section):
    """Section `gate`: when a challenger replaces the champion."""

    margin: Margin
    """It may be this much worse, and its interval may reach down to twice that."""
    worst_subtype_margin: Margin | None
    """The same for the recall of the subtype that is recognised worst; null reports it only."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)]
    resamples: Annotated[int, Field(ge=200, le=1_000_000)]
    seed: Annotated[int, Field(ge=0)]
    least_cases: Annotated[int, Field(ge=2)]
    """Of a data set's test part; with fewer nothing is decided."""
    floor: Floors
    """Asked for as long as there is no champion."""
    max_quarantined: Share
    """Of the rows of each data set."""
    budget: Budget


SECTIONS: dict[str, Any] = {
    "recipes": dict[str, Any],
    "ensembles": dict[str, Any],
    "retrain": Retrain,
    "gate": GateParams,
}
"""Of `recipes` and `ensembles` only the keys count: their order is that of the rows, and one that was deleted has no
row."""
