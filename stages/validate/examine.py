"""The examination: manifest, each source, quarantine, then the proof that what goes on is clean."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from great_expectations.expectations.expectation import Expectation

from stages.contracts.manifest import SOURCES
from stages.validate import published
from stages.validate.gate import Gate, Outcome
from stages.validate.params import AtLeast, ValidateParams
from stages.validate.quarantine import counted, duplicate_reasons, part, row_reasons
from stages.validate.report import data_mark, record
from stages.validate.suites import manifest_suite, remaining_suite, schema_suite, source_suite, validated_suite

FEWEST_CASES = 3
"""One for each part of the split: what must be left of a source whose published counts were checked before."""
PUBLISHED_IMAGES = {"idc": sum(published.IDC_IMAGES.values()), "breakhis": sum(published.BREAKHIS_IMAGES.values())}

Sources = Mapping[str, Mapping[str, Any]]
Bounds = Mapping[str, AtLeast | None]


@dataclass(frozen=True)
class Examination:
    """What came of it. `validated` and `quarantined` are None where a critical rule on the manifest failed."""

    sources: Sources
    rows: int
    """Of the manifest."""
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
        rows: dict[str, Any] = {"in": self.rows}
        if self.validated is not None and self.quarantined is not None:
            rows |= {"validated": len(self.validated), "quarantined": len(self.quarantined)}
            rows["reasons"] = counted(self.quarantined["reason"])
        return {
            "data": self.data,
            "success": not self.stopped,
            "sources": {name: dict(source) for name, source in self.sources.items()},
            "rows": rows,
            "expectations": [record(outcome, self.frames[outcome.suite]) for outcome in self.outcomes],
        }


def examine(
    gate: Gate, manifest: pd.DataFrame, sources: Sources, limits: ValidateParams, bounds: Bounds
) -> Examination:
    """Hold a manifest against its suites and part its rows.

    manifest: every row that merge made, index 0..n-1. sources: what stood in source.json, by source. bounds: by source;
    None where the published counts must hold. It ends early where a critical rule fails: what follows would only
    repeat it.
    """
    found = Examination(sources, len(manifest), [], {})

    def check(suite: str, frame: pd.DataFrame, rules: list[Expectation]) -> list[Outcome]:
        found.frames[suite] = frame
        outcomes = gate.check(suite, frame, rules)
        found.outcomes.extend(outcomes)
        return outcomes

    check("schema", manifest.head(0), schema_suite())
    if found.stopped:
        return found
    reasons = row_reasons(manifest, check("manifest", manifest, manifest_suite()))
    if found.stopped:
        return found
    present = [name for name in SOURCES if sources[name]["present"]]
    for source in present:
        rows = manifest[manifest["source"] == source]
        whole = len(rows) == PUBLISHED_IMAGES[source]
        rules = source_suite(source, bounds[source], whole, limits.blank_share, limits.blur_variance)
        own = row_reasons(rows, check(source, with_labels_of_case(rows).reset_index(drop=True), rules))
        reasons = pd.concat([reasons, own[~own.index.isin(reasons.index)]])
    if found.stopped:
        return found
    reasons = pd.concat([reasons, duplicate_reasons(manifest[~manifest.index.isin(reasons.index)])])
    validated, quarantined = part(manifest, reasons)
    check("validated", with_labels_of_case(validated), validated_suite())
    for source in present:
        rows = validated[validated["source"] == source].reset_index(drop=True)
        least = bound.cases if (bound := bounds[source]) else FEWEST_CASES
        check(f"validated_{source}", rows, remaining_suite(source, least))
    return replace(found, validated=validated, quarantined=quarantined)


def with_labels_of_case(frame: pd.DataFrame) -> pd.DataFrame:
    """Add `labels_of_case`, the number of different labels in a BreakHis row's case; null elsewhere.

    Great Expectations looks at rows one by one, so what holds for a group must stand in a column. An IDC case holds
    patches of both labels by nature.
    """
    breakhis = frame[frame["source"] == "breakhis"]
    return frame.assign(labels_of_case=breakhis.groupby("case_id")["label"].transform("nunique"))
