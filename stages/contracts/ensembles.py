"""What an ensemble says of itself beside its operating point: whose probabilities were averaged, whose could not be."""

from pathlib import Path

from pydantic import BaseModel, ConfigDict

from stages.contracts.files import read_json

KEY = "ensemble"
"""In reports/operating/<ensemble>.json."""


class EnsembleRecord(BaseModel):
    """An ensemble of trained models; it has no weights of its own and no model folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    members: list[str]
    """Recipes, as params.yaml names them."""
    left_out: dict[str, str]
    """Member -> why it was not run. The others were averaged; where all are here there is no operating point."""
    reproduces: str | None

    @property
    def averaged(self) -> list[str]:
        """The members that were run."""
        return [name for name in self.members if name not in self.left_out]

    def said(self) -> str:
        """In words, for tables: `ensemble of a, b (without c)`."""
        without = f" (without {', '.join(self.left_out)})" if self.left_out and self.averaged else ""
        return f"ensemble of {', '.join(self.averaged or self.members)}{without}"

    def reason(self) -> str:
        """Why there is nothing to average."""
        return "none of its members was run: " + "; ".join(f"{name}: {why}" for name, why in self.left_out.items())


def read_ensemble(path: Path) -> EnsembleRecord:
    """The record in the operating point at `path`. Raises StageError where the file is missing."""
    return EnsembleRecord.model_validate(read_json(path)[KEY])
