"""The verdict on a batch: of each source, and of all."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from stages.evaluate.params import DriftParams
from stages.evaluate.shift import Limits, Population, Shift, shifts

LEAST_REFERENCE_CASES = 8
"""Groups of cases are compared with the others; of fewer cases there are too few groups to tell what chance does."""

MOST_OF_A_CASE = 50
"""Images of one case that are compared. Cases are the units; more images of one say little more about a batch."""

TOO_FEW = "too few images"


def readable(rows: pd.DataFrame) -> pd.DataFrame:
    """Manifest rows with pixels and a meaning, renumbered."""
    return rows[rows["decode_error"].isna() & rows["pixel_row"].notna()].reset_index(drop=True)


def thinned(rows: pd.DataFrame) -> pd.DataFrame:
    """At most MOST_OF_A_CASE rows of each case, evenly spaced in their order, renumbered.

    Else a few cases of thousands of patches are the whole batch, and what is seen is how two cases differ.
    """
    place = rows.groupby("case_id").cumcount()
    size = rows.groupby("case_id")["case_id"].transform("size")
    most = size.clip(upper=MOST_OF_A_CASE)
    return rows[(place + 1) * most // size > place * most // size].reset_index(drop=True)


def source_outlook(rows: pd.DataFrame, populations: list[Population], knobs: DriftParams) -> dict[str, Any]:
    """What reports say of one source: verdict, reason, counts, and every statistic with its limit.

    rows: manifest rows of the new images. populations: what is compared, of `thinned` rows; one whose reference has too
    few cases is left out.
    """
    images = readable(rows)
    sizes = thinned(images).groupby("case_id").size().to_numpy()
    unreadable, least = 1 - len(images) / len(rows), knobs.least_images
    compared = [one for one in populations if one.case.nunique() >= LEAST_REFERENCE_CASES]
    found: list[Shift] = []
    if len(images) >= least and compared:
        found = shifts(compared, sizes, Limits(**knobs.model_dump(include=set(Limits.__dataclass_fields__))))
    moved = [f"{one.kind.upper()} of {one.feature} {one.value:.3f} > {one.limit:.3f}" for one in found if one.drifted]
    if len(rows) >= least and unreadable > knobs.unreadable:
        moved.insert(0, f"{unreadable:.1%} of the images are unreadable, more than {knobs.unreadable:.1%}")
    if moved:
        verdict, reason = "drifted", "; ".join(moved)
    elif found:
        verdict, reason = "stable", f"none of {len(found)} statistics is beyond its limit"
    elif len(images) < least:
        verdict, reason = (
            TOO_FEW,
            f"{len(images)} readable images, fewer than drift.least_images = {least}",
        )
    else:
        verdict, reason = TOO_FEW, f"the training index has fewer than {LEAST_REFERENCE_CASES} cases to compare with"
    return {
        "verdict": verdict,
        "reason": reason,
        "images": len(rows),
        "cases": len(sizes),
        "unreadable": round(unreadable, 6),
        "statistics": [_as_json(one) for one in found],
    }


def overall(sources: Mapping[str, Mapping[str, Any]]) -> str:
    """drifted if any source is, else stable if any is, else undecided."""
    verdicts = {source["verdict"] for source in sources.values()}
    return next((one for one in ("drifted", "stable") if one in verdicts), "undecided")


def table(report: Mapping[str, Any]) -> str:
    """The whole of .stroma/drift.json as text for a terminal or a log."""
    lines = [f"Drift: {report['verdict']} ({report['data']} data, class prior by {report['model']})"]
    if not report["sources"]:
        lines.append("The batch holds no image that the manifest does not have already.")
    for source, found in report["sources"].items():
        lines += ["", f"{source}: {found['verdict']} - {found['reason']}"]
        counts = f"{found['images']:,} new images of {found['cases']} cases"
        lines.append(f"  {counts}, {found['unreadable']:.1%} unreadable")
        if found["statistics"]:
            lines.append(f"  {'feature':<22}{'reference':>10}{'batch':>10}  {'':<4}{'value':>8}{'limit':>8}")
        for one in found["statistics"]:
            means = "".join(f"{'-' if one[key] is None else f'{one[key]:.3g}':>10}" for key in ("reference", "batch"))
            mark = "  DRIFTED" if one["drifted"] else ""
            numbers = f"{one['value']:>8.3f}{one['limit']:>8.3f}"
            lines.append(f"  {one['feature']:<22}{means}  {one['statistic']:<4}{numbers}{mark}")
    return "\n".join(lines)


def _as_json(shift: Shift) -> dict[str, Any]:
    numbers = {name: getattr(shift, name) for name in ("value", "limit", "by_chance", "reference", "batch")}
    rounded = {name: None if value is None else round(value, 6) for name, value in numbers.items()}
    return {"feature": shift.feature, "statistic": shift.kind, "drifted": shift.drifted, **rounded}
