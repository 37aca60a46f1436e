"""The sections of params.yaml that validate owns: thresholds, and how many images a profile must bring."""

from dataclasses import dataclass
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from stages.contracts.sections import Section


class ValidateParams(Section):
    """Section `validate`: when an image is too empty to learn from."""

    blank_share: float = Field(gt=0, le=1)
    blur_variance: float = Field(ge=0)


@dataclass(frozen=True)
class AtLeast:
    """Lower bounds on a source, and the key of params.yaml that sets them."""

    images: int
    cases: int
    key: str


class Bounds(Section):
    """The least that a source must bring."""

    images: int = Field(ge=2)
    cases: int = Field(ge=3)  # one for each part of the split


class ProfileCounts(Section):
    """Section `profiles.<profile>.validate`: hold the counts to what was published, or to lower bounds."""

    counts: Literal["published", "bounds"]
    idc: Bounds | None = None
    breakhis: Bounds | None = None

    @model_validator(mode="after")
    def _bounds_where_needed(self) -> Self:
        given = [name for name in ("idc", "breakhis") if getattr(self, name) is not None]
        if self.counts == "bounds" and len(given) < 2:
            raise ValueError("`counts: bounds` needs both `idc: {images, cases}` and `breakhis: {images, cases}`")
        if self.counts == "published" and given:
            raise ValueError(f"`counts: published` takes no bounds; remove {given}, or set `counts: bounds`")
        return self

    def at_least(self, key: str) -> dict[str, AtLeast | None]:
        """The bounds of each source, or None where the published counts must hold. key: where this section stands."""
        given = {"breakhis": self.breakhis, "idc": self.idc}
        return {
            name: AtLeast(bounds.images, bounds.cases, f"{key}.{name}") if bounds else None
            for name, bounds in given.items()
        }


SECTIONS: dict[str, Any] = {"validate": ValidateParams, "profiles.*.validate": ProfileCounts}
