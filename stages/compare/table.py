"""`python -m stages.compare.table`: print reports/comparison.csv as a table that fits 120 columns."""

import csv
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

COMPARISON = Path("reports/comparison.csv")
PAGE = Path("reports/comparison.html")

COLUMNS = (
    ("recipe", "recipe"),
    ("arch", "arch"),
    ("split", "protocol"),
    ("start", "start"),
    ("M", "params_m"),
    ("bal.", "idc_balanced_accuracy"),
    ("AUROC", "idc_auroc"),
    ("bal.", "breakhis_image_balanced_accuracy"),
    ("AUROC", "breakhis_image_auroc"),
    ("bal.", "breakhis_case_balanced_accuracy"),
    ("AUROC", "breakhis_case_auroc"),
)
"""Heading, column of the CSV."""
OVER = {4: "params", 6: "IDC", 8: "BreakHis", 10: "by case"}
"""Place of a column -> what stands over it. The mark of the data stands over the first."""
NUMBERS_FROM = 4
LONGEST_NAME = 24

MARKS = {
    "demo": "drawn tissue; the numbers show that the pipeline works, and nothing about cancer",
    "real sample": "a part of the published images; not comparable with results on all of them",
    "full": "both published data sets, every count as published",
}
"""Mark of the data -> what it means for the reader."""


def rendered(rows: Sequence[Mapping[str, str]]) -> str:
    """The table as text of at most 120 columns, then what was not run, what leaks, and what the data is.

    rows: of the comparison CSV, as strings; empty where unknown.
    """
    marks = list(dict.fromkeys(row["data"] for row in rows))
    over = [", ".join(marks).upper(), *(OVER.get(place, "") for place in range(1, len(COLUMNS)))]
    cells = [[_cell(row, key) for _, key in COLUMNS] for row in rows]
    grid = [over, [heading for heading, _ in COLUMNS], *cells]
    widths = [max(len(line[place]) for line in grid[1:]) for place in range(len(COLUMNS))]
    lines = [_line(line, widths) for line in grid]
    lines.insert(2, "-" * max(map(len, lines)))
    notes = [f"{row['recipe']}: {row['status']}" for row in rows if row["status"] != "ok"]
    notes += [f"{row['recipe']}: trained without {row['missing']}" for row in rows if _partly(row)]
    notes += [f"{row['recipe']}: LEAKS, {row['leaks']}" for row in rows if row["leaks"] != "no"]
    notes += [f"Data: {mark} - {MARKS.get(mark, '')}" for mark in marks]
    return "\n".join(
        [*lines, "", *notes, "bal.: balanced accuracy. Test part, scored once; thresholds were chosen on val."]
    )


def _partly(row: Mapping[str, str]) -> bool:
    return bool(row["missing"]) and row["status"] == "ok"


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Names to the left, numbers to the right. What stands over a pair of columns may reach into the left one."""
    line = ""
    for place, (cell, width) in enumerate(zip(cells, widths, strict=True)):
        end = sum(widths[: place + 1]) + 2 * place
        line = f"{line:<{end - width}}{cell}" if place < NUMBERS_FROM else line.ljust(end - len(cell)) + cell
    return line.rstrip()


def _cell(row: Mapping[str, str], key: str) -> str:
    text = row[key]
    if not text:
        return "-"
    if key == "start" and text not in ("imagenet", "random"):
        return "recipe"
    if key.endswith(("accuracy", "auroc")):
        return f"{float(text):.3f}"
    if key == "params_m":
        return f"{float(text):.2f}"
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def main() -> int:
    """Print the table and where the report lies; return the exit status."""
    try:
        with COMPARISON.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        print(f"{COMPARISON} is missing; `dvc repro` makes it", file=sys.stderr)
        return 1
    print(rendered(rows))
    print(f"Report: {PAGE}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
