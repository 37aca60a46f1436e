"""The typed model of this room's own sections of params.yaml: `index` and `protocols`."""

from pathlib import PurePosixPath
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, field_validator, model_validator

from stages.contracts.sections import Protocol, Section

Share = Annotated[float, Field(gt=0, lt=1)]

FROZEN_FOLDER = "splits"
"""Where assignment tables are kept. The folder is a dep of the stage: DVC's templating has no optional deps, so a path
that params alone name would go stale unseen when the content of the table changes."""


class Parts(Section):
    """Shares of the images that the three parts aim at; they sum to 1."""

    train: Share
    val: Share
    test: Share

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        total = self.train + self.val + self.test
        if abs(total - 1) > 1e-9:
            raise ValueError(
                f"train {self.train} + val {self.val} + test {self.test} = {total:.6g}; the shares must sum to 1"
            )
        return self


class IndexParams(Section):
    """How the cases are parted.

    gap: relative gap at which the search for the split stops. node_limit: safety net of the search. folds: of the
    protocol kfold. seed: orders the cases before the search, and draws the images of the protocol image. frozen: an
    assignment table whose cases keep their part in the protocol case.
    """

    parts: Parts
    gap: Annotated[float, Field(gt=0, lt=1)]
    node_limit: Annotated[int, Field(gt=0)]
    folds: Annotated[int, Field(ge=3, le=20)]
    seed: Annotated[int, Field(ge=0)]
    frozen: str | None

    @model_validator(mode="after")
    def _folds_leave_train(self) -> Self:
        if self.parts.val + 1 / self.folds >= 1:
            raise ValueError(
                f"folds {self.folds} and parts.val {self.parts.val} leave no image to train on; lower parts.val"
            )
        return self

    @field_validator("frozen")
    @classmethod
    def _is_watched(cls, value: str | None) -> str | None:
        if value is None:
            return None
        path = PurePosixPath(value)
        if len(path.parts) < 2 or path.parts[0] != FROZEN_FOLDER or ".." in path.parts:
            raise ValueError(
                f"must be null or a table in {FROZEN_FOLDER}/, the folder that the stage depends on, so that DVC "
                "notices when the table changes"
            )
        return value


def _once_each(protocols: list[Protocol]) -> list[Protocol]:
    if len(set(protocols)) != len(protocols):
        raise ValueError("a protocol stands in the list more than once; each index is built once")
    return protocols


Protocols = Annotated[list[Protocol], Field(min_length=1), AfterValidator(_once_each)]

SECTIONS: dict[str, Any] = {"index": IndexParams, "protocols": Protocols}
