"""What the gate found, as records for reports/validation.json and as a table for the person who must act."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stages.validate.gate import Outcome

NAMED = 3
"""So many offending images are named."""


def record(outcome: Outcome, frame: pd.DataFrame) -> dict[str, Any]:
    """One rule and what came of it, as plain values that are equal in every run. frame: what was checked."""
    config = outcome.rule.configuration.to_json_dict()
    kwargs = {key: value for key, value in config["kwargs"].items() if value is not None}
    return {
        "suite": outcome.suite,
        "rule": outcome.rule.description,
        "expectation": config["type"],
        "severity": outcome.rule.severity.value,
        "kwargs": kwargs,
        "observed": round(outcome.observed, 4) if isinstance(outcome.observed, float) else outcome.observed,
        "unexpected": outcome.unexpected,
        "checked": outcome.checked,
        "images": _first_images(outcome, frame),
        "success": outcome.success,
    }


def data_mark(sources: Mapping[str, Mapping[str, Any]], outcomes: Sequence[Outcome]) -> str:
    """`demo` if any source was drawn, `full` if every published count holds for both sources, else `real sample`."""
    present = [source for source in sources.values() if source["present"]]
    if any(source["kind"] == "drawn" for source in present):
        return "demo"
    counts = [outcome for outcome in outcomes if (outcome.rule.meta or {}).get("published")]
    whole = {outcome.suite for outcome in counts} == set(sources) and all(outcome.success for outcome in counts)
    return "full" if whole else "real sample"


def told(rows: Mapping[str, Any]) -> str:
    """The closing sentence: where every row of the manifest went."""
    reasons = ", ".join(f"{number:,} {reason}" for reason, number in rows["reasons"].items())
    held = f"{rows['quarantined']:,} quarantined" + (f" ({reasons})" if reasons else "")
    return f"{rows['in']:,} rows = {rows['validated']:,} validated + {held}"


def failed(
    outcomes: Sequence[Outcome], frames: Mapping[str, pd.DataFrame], rows: Mapping[str, Any], place: Path
) -> str:
    """The message of a stop: the table of failures, where the rows went, where to see more, and what to do."""
    number = sum(outcome.stops for outcome in outcomes)
    went = f"After quarantine: {told(rows)}\n" if "reasons" in rows else ""
    return (
        f"the data breaks {number} critical rule{'s' if number > 1 else ''}, so nothing goes on\n"
        f"{failures(outcomes, frames)}\n{went}"
        f"All rules and findings: {place}/validation.json and {place}/data_docs/index.html. Mend the archive that "
        "`profile` names in params.yaml, or the bound named above, and run `dvc repro` again"
    )


def failures(outcomes: Sequence[Outcome], frames: Mapping[str, pd.DataFrame]) -> str:
    """A table of the rules that stop the pipeline: where, what must hold, what was found, on which images."""
    rows = [
        (
            outcome.suite,
            str(outcome.rule.description),
            _found(outcome),
            " ".join(_first_images(outcome, frames[outcome.suite])),
        )
        for outcome in outcomes
        if outcome.stops
    ]
    table = [("suite", "what must hold", "found", "first images"), *rows]
    widths = [max(len(row[column]) for row in table) for column in range(4)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )


def _found(outcome: Outcome) -> str:
    if outcome.unexpected is not None and outcome.checked is not None:
        return f"{outcome.unexpected:,} of {outcome.checked:,} rows break it"
    value = outcome.observed
    return f"{value:,}" if isinstance(value, int) else str(value)


def _first_images(outcome: Outcome, frame: pd.DataFrame) -> list[str]:
    return [str(image) for image in frame["image_id"].iloc[list(outcome.rows[:NAMED])]] if outcome.rows else []
