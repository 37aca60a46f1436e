"""The comparison cut into narrow tables of text, for a page and for Markdown alike."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.compare.collect import Findings
from stages.compare.rows import METRICS, REPORTED_LABEL, against_reported

METRIC_NAMES = {
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "f1": "F1",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "accuracy": "accuracy",
}
UNKNOWN = "–"
LEAKS = "LEAKS"

LEVELS = (
    ("IDC, by image", "idc", "idc"),
    ("BreakHis, by image", "breakhis_image", "breakhis"),
    ("BreakHis, by case", "breakhis_case", "breakhis"),
)
"""Title, prefix of the metric columns, prefix of the counts."""

EIGHT_CLASSES = (
    "8 classes: accuracy, balanced accuracy, AUROC (one against the rest) and F1 are means over the subtypes present; "
    "sensitivity and specificity are of benign against malignant."
)
BY_CASE = "By case: the mean probability of the images of a case, held against the threshold of the images."


@dataclass(frozen=True)
class Grid:
    """A table of text cells; the first column names the row, those from `numbers_from` on are numbers."""

    title: str
    headings: list[str]
    rows: list[list[str]]
    numbers_from: int
    notes: tuple[str, ...] = ()


def what_was_run(table: pd.DataFrame) -> Grid:
    """What each recipe is, and whether it was run. table: the comparison."""
    headings = ["recipe", "reproduces", "arch", "task", "trained on", "split", "status"]
    rows = []
    for _, row in table.iterrows():
        missing = f" (without {row['missing']})" if row["status"] == "ok" and row["missing"] else ""
        trained = cell(row["trained_on"]) + missing
        what = (row["recipe"], row["reproduces"], row["arch"], row["task"], trained, split_name(row), row["status"])
        rows.append([cell(value) for value in what])
    return Grid("What was run", headings, rows, len(headings))


def models_grid(table: pd.DataFrame) -> Grid:
    """Size and start weights of the recipes that were run."""
    headings = ["recipe", "start weights", "image size, px", "parameters, M", "MACs, M", "kept epoch"]
    rows = []
    for _, row in table[table["status"] == "ok"].iterrows():
        note = f" ({row['start_note']})" if cell(row["start_note"]) != UNKNOWN else ""
        sizes = [cell(row["image_size"]), f"{row['params_m']:.2f}", f"{row['macs_m']:,.1f}"]
        kept = UNKNOWN if pd.isna(row["epochs"]) else f"{row['best_epoch']} of {row['epochs']}"
        rows.append([row["recipe"], f"{cell(row['start'])}{note}", *sizes, kept])
    return Grid("Models", headings, rows, 2)


def metric_grids(table: pd.DataFrame) -> list[Grid]:
    """Test metrics, a grid for each source and level on which any recipe was scored."""
    found = []
    for title, prefix, counts in LEVELS:
        scored = table[table[f"{counts}_images"].notna()]
        if len(scored):
            rows = [_metrics(row, prefix, counts) for _, row in scored.iterrows()]
            notes = [EIGHT_CLASSES] if (scored["task"] == "subtype").any() else []
            notes += [BY_CASE] if prefix.endswith("case") else []
            headings = ["recipe", "split", "images", "cases", *(METRIC_NAMES[metric] for metric in METRICS)]
            found.append(Grid(title, headings, rows, 2, tuple(notes)))
    return found


def reported_grid(findings: Findings) -> Grid:
    """What the original projects reported, beside the same quantity measured here."""
    rows = [
        [result.recipe, cell(result.settings["reproduces"]), *(cell(one[key]) for key in _REPORTED)]
        for result in findings.results
        for one in against_reported(result)
    ]
    note = (
        "The original projects split at random over images: images of one case may have been in training and in test, "
        "which flatters. What was measured here is by image, on the part named."
    )
    headings = ["recipe", "original project", "quantity", REPORTED_LABEL, "measured here", "part"]
    return Grid("Reported and measured", headings, rows, len(headings), (note,))


_REPORTED = ("quantity", "reported", "measured", "part")


def split_grid(findings: Findings) -> Grid:
    """How many images and cases each part holds, of every protocol, source and fold."""
    rows = []
    for protocol, report in findings.splits.items():
        for source, found in report["sources"].items():
            if "counts" not in found:
                rows.append([protocol, source, f"left out: {found['left_out']}", *[UNKNOWN] * 3])
                continue
            for fold, parts in found["counts"].items():
                name = protocol if fold == "0" else f"{protocol}, fold {fold}"
                sizes = [f"{parts[part]['images']:,} / {parts[part]['cases']:,}" for part in ("train", "val", "test")]
                rows.append([name, source, cell(found.get("disjointness")), *sizes])
    headings = ["split", "source", "cases in two parts", "train, images / cases", "val", "test"]
    return Grid("Who is in which part", headings, rows, 3)


def sources_grid(validation: dict[str, Any]) -> Grid:
    """Where the images came from."""
    rows = [
        [name, source["kind"], *(cell(source[key]) for key in ("file", "licence")), (source["sha256"] or UNKNOWN)[:16]]
        if source["present"]
        else [name, f"absent: {source['reason']}", *[UNKNOWN] * 3]
        for name, source in sorted(validation["sources"].items())
    ]
    return Grid("Where the images came from", ["source", "kind", "archive", "licence", "sha256, first 16"], rows, 5)


def quarantine_grid(validation: dict[str, Any]) -> Grid:
    """Where every row of the manifest went."""
    rows = validation["rows"]
    held = [[f"quarantined: {reason}", f"{count:,}"] for reason, count in sorted(rows["reasons"].items())]
    lines = [["in", f"{rows['in']:,}"], ["validated", f"{rows['validated']:,}"], *held]
    return Grid("What the gate let through", ["rows", "images"], lines, 1)


def rows_sentence(validation: dict[str, Any]) -> str:
    """Where the rows went: in = validated + quarantined, with the reasons."""
    rows = validation["rows"]
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(rows["reasons"].items()))
    held = f"{rows['quarantined']:,} quarantined" + (f" ({reasons})" if reasons else "")
    return f"{rows['in']:,} rows in = {rows['validated']:,} validated + {held}"


def cell(value: Any) -> str:
    """A value as text; what is unknown is a dash."""
    known = value != "" if isinstance(value, str) else not pd.isna(value)
    return str(value) if known else UNKNOWN


def split_name(row: pd.Series) -> str:
    """The protocol, its fold, and a warning where cases are shared between parts."""
    fold = f", fold {row['fold']}" if row["fold"] else ""
    return f"{row['protocol']}{fold}" + (f" · {LEAKS}" if row["leaks"] != "no" else "")


def _metrics(row: pd.Series, prefix: str, counts: str) -> list[str]:
    name = row["recipe"] + (" (8 classes)" if row["task"] == "subtype" else "")
    sizes = [f"{row[f'{counts}_{count}']:,}" for count in ("images", "cases")]
    values: Iterable[Any] = (row[f"{prefix}_{metric}"] for metric in METRICS)
    return [name, split_name(row), *sizes, *(UNKNOWN if pd.isna(value) else f"{value:.4f}" for value in values)]
