"""The room's own section of params.yaml."""

from typing import Any

from pydantic import Field

from stages.contracts.sections import Section


class EvaluateParams(Section):
    """How predictions are made and scored."""

    batch_size: int = Field(ge=1, le=65536)
    """Images per forward pass; bounds memory, does not change what is scored."""
    calibration_bins: int = Field(ge=2, le=100)
    """Equal bins of probability, for the calibration error and its plot."""
    specificity: float = Field(gt=0, lt=1)
    """Sensitivity is also scored at the threshold that reaches this specificity on val."""


SECTIONS: dict[str, Any] = {"evaluate": EvaluateParams}
