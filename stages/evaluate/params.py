"""The room's own section of params.yaml."""

from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from stages.contracts.sections import Section


class EvaluateParams(Section):
    """How predictions are made and scored."""

    batch_size: int = Field(ge=1, le=65536)
    """Images per forward pass; bounds memory, does not change what is scored."""
    calibration_bins: int = Field(ge=2, le=100)
    """Equal bins of probability, for the calibration error and its plot."""
    specificity: float = Field(gt=0, lt=1)
    """Sensitivity is also scored at the threshold that reaches this specificity on val."""


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


SECTIONS: dict[str, Any] = {"evaluate": EvaluateParams, "drift": DriftParams}
