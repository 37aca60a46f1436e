"""The examination: manifest, each source, quarantine, then the proof that what goes on is clean."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.contracts.manifest import SOURCES
from stages.validate import published
from stages.validate.gate import Gate, Outcome
from stages.validate.params import ProfileCounts, ValidateParams
from stages.validate.quarantine import counted, duplicate_reasons, part, row_reasons
from stages.validate.report import data_mark, record
from stages.validate.suites import AtLeast, manifest_suite, source_suite, validated_suite

FEWEST_CASES = 3
"""One for each part of the split: what must be left of a source whose published counts were checked before."""
PUBLISHED_IMAGES = {"idc": sum(published.IDC_IMAGES.values()), "breakhis": sum(published.BREAKHIS_IMAGES.values())}


@dataclass(frozen=True)
class Examination:
    """What came of it. `validated` and `quarantined` are None where a critical rule on the manifest failed."""

    sources: Mapping[str, Mapping[str, Any]]
    outcomes: list[Outcome]
    frames: dict[str, pd.DataFrame]
    validated: pd.DataFrame | None = None
    quarantined: pd.DataFrame | None = None

    @property
    def stopped(self) -> bool:
        """A critical rule failed."""
        return any(outcome.stops for outcome in self.outcomes)

    @property
    def data(self) -> str:
        """The mark that every later table carries: demo, real sample or full."""
        return data_mark(self.sources, self.outcomes)

    def report(self) -> dict[str, Any]:
        """reports/validation.json: the mark, the sources, where the rows went, and every rule."""
        rows: dict[str, Any] = {"in": len(self.frames["manifest"])}
        if self.validated is not None and self.quarantined is not None:
            rows |= {"validated": len(self.validated), "quarantined": len(self.quarantined)}
            rows["reasons"] = counted(self.quarantined["reason"])
        return {
            "data": self.data,
            "success": not self.stopped,
            "sources": {name: dict(source) for name, source in self.sources.items()},
            "rows": rows,
            "expectations": [record(outcome) for outcome in self.outcomes],
        }


def examine(
    gate: Gate,
    manifest: pd.DataFrame,
    sources: Mapping[str, Mapping[str, Any]],
    limits: ValidateParams,
    counts: ProfileCounts,
    key: str,
) -> Examination:
    """Hold a manifest against its suites and part its rows.

    manifest: every row that merge made, index 0..n-1. sources: what stood in source.json, by source. key: where in
    params.yaml the counts stand. It ends early where a critical rule fails: what follows would only repeat it.
    """
    frames = {"manifest": manifest}
    outcomes = gate.check("manifest", manifest, manifest_suite())
    so_far = Examination(sources, outcomes, frames)
    if so_far.stopped:
        return so_far
    reasons = row_reasons(manifest, outcomes)
    for source in (name for name in SOURCES if sources[name]["present"]):
        rows = with_labels_of_case(manifest[manifest["source"] == source])
        frames[source] = rows.reset_index(drop=True)
        rules = source_suite(
            source, _bounds(counts, source, key), len(rows) == PUBLISHED_IMAGES[source],
            limits.blank_share, limits.blur_variance,
        )  # fmt: skip
        found = gate.check(source, frames[source], rules)
        outcomes += found
        own = row_reasons(rows, found)
        reasons = pd.concat([reasons, own[~own.index.isin(reasons.index)]])
    if so_far.stopped:
        return so_far
    reasons = pd.concat([reasons, duplicate_reasons(manifest[~manifest.index.isin(reasons.index)])])
    validated, quarantined = part(manifest, reasons)
    frames["validated"] = with_labels_of_case(validated)
    outcomes += gate.check("validated", frames["validated"], validated_suite(_left(counts, sources, key)))
    return Examination(sources, outcomes, frames, validated, quarantined)


def with_labels_of_case(frame: pd.DataFrame) -> pd.DataFrame:
    """Add `labels_of_case`, the number of different labels in a BreakHis row's case; null elsewhere.

    Great Expectations looks at rows one by one, so what holds for a group must stand in a column. An IDC case holds
    patches of both labels by nature.
    """
    breakhis = frame[frame["source"] == "breakhis"]
    return frame.assign(labels_of_case=breakhis.groupby("case_id")["label"].transform("nunique"))


def _bounds(counts: ProfileCounts, source: str, key: str) -> AtLeast | None:
    bounds = getattr(counts, source)
    return AtLeast(bounds.images, bounds.cases, f"{key}.{source}") if bounds else None


def _left(counts: ProfileCounts, sources: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, int]:
    """How many cases of each present source must be left after quarantine."""
    present = [name for name in SOURCES if sources[name]["present"]]
    bounds = {name: _bounds(counts, name, key) for name in present}
    return {name: bound.cases if bound else FEWEST_CASES for name, bound in bounds.items()}
