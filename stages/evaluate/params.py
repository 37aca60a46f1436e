"""The room's own section of params.yaml."""

from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from stages.contracts.sections import Protocol, Section


class EvaluateParams(Section):
    """How predictions are made and scored."""

    batch_size: int = Field(ge=1, le=65536)
    """Images per forward pass; bounds memory, does not change what is scored."""
    calibration_bins: int = Field(ge=2, le=100)
    """Equal bins of probability, for the calibration error and its plot."""
    specificity: float = Field(gt=0, lt=1)
    """Sensitivity is also scored at the threshold that reaches this specificity on val."""


FEWEST_MEMBERS, MOST_MEMBERS = 2, 4
"""Of an ensemble. DVC's templates have no loop: the stage `ensemble` of dvc.yaml lists the first two and the last two
members as dependencies one by one, which are all of them only if there are two, three or four."""


class Ensemble(Section):
    """One entry of `ensembles`: recipes whose calibrated probabilities are averaged."""

    reproduces: str | None
    """The original project, or null."""
    protocol: Protocol
    """That of its members; stands here because dvc.yaml uses it."""
    members: list[str]
    """Recipes of one task, protocol and fold; each counts the same."""

    @field_validator("members")
    @classmethod
    def _listed(cls, members: list[str]) -> list[str]:
        if not FEWEST_MEMBERS <= len(members) <= MOST_MEMBERS:
            raise ValueError(
                f"{len(members)} members; dvc.yaml's stage ensemble can list {FEWEST_MEMBERS} to {MOST_MEMBERS}"
            )
        twice = sorted({name for name in members if members.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} stands there more than once; name each recipe once")
        return members


Given = Annotated[str, Field(min_length=1)] | None


class Incoming(Section):
    """The new batch: PATH of an archive or a folder, from the repository's root; null if there is none."""

    idc: Given
    breakhis: Given


class DriftParams(Section):
    """Section `drift`: when a new batch is no longer like what the models were trained on."""

    incoming: Incoming
    """Read by the flow, which ingests it."""
    retrain: bool
    """Whether a drifted batch starts a retrain; read by the flow."""
    recipe: str
    """Judges the class prior until there is a champion of the binary task."""
    psi: float = Field(gt=0)
    """Population stability index that matters, if chance does not explain it."""
    ks: float = Field(gt=0, lt=1)
    """Kolmogorov-Smirnov distance that matters, likewise."""
    unreadable: float = Field(ge=0, le=1)
    """Share of images that cannot be decoded or named."""
    least_images: int = Field(ge=10)
    """New readable images of a source; with fewer nothing is decided."""
    false_alarm: float = Field(gt=0, lt=0.5)
    """Chance, a source, that a batch of new cases from the same laboratories is called drifted."""
    bins: int = Field(ge=2, le=100)
    resamples: int = Field(ge=100, le=100_000)
    """Groups of reference cases by which it is known what chance does."""
    seed: int = Field(ge=0)

    @model_validator(mode="after")
    def _resolved(self) -> Self:
        if self.resamples * self.false_alarm < 1:
            raise ValueError(f"{self.resamples} resamples cannot tell a chance of {self.false_alarm}; take more")
        return self


SECTIONS: dict[str, Any] = {"evaluate": EvaluateParams, "drift": DriftParams, "ensembles.*": Ensemble}
