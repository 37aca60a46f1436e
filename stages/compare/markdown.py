"""The comparison as Markdown for a git host."""

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from stages.compare.collect import Findings
from stages.compare.grids import LEAKS, Grid, metric_grids, models_grid, reported_grid, rows_sentence, what_was_run
from stages.compare.table import MARKS


def written(findings: Findings, compared: pd.DataFrame) -> str:
    """The page. compared: `comparison` of the same findings."""
    grids = [what_was_run(compared), models_grid(compared), *metric_grids(compared), reported_grid(findings)]
    blocks = [
        "# Comparison of the recipes",
        f"**Data: {findings.data} – {MARKS[findings.data]}.**",
        *(f"Split `{protocol}`: {report['disjointness']}." for protocol, report in findings.splits.items()),
        f"{rows_sentence(findings.validation)}.",
        "All metrics are of the test part, scored once; temperature, thresholds and epochs were chosen on val. "
        "There are no intervals yet: with few cases, differences of a few points are noise.",
        *(block for grid in grids if grid.rows for block in _blocks(grid, findings.data)),
        "Not a medical device.",
    ]
    return "\n\n".join(blocks) + "\n"


def table(grid: Grid) -> str:
    """The rows of a grid as a Markdown table."""
    rule = ["---:" if place >= grid.numbers_from else "---" for place in range(len(grid.headings))]
    return "\n".join(_line(cells) for cells in [grid.headings, rule, *grid.rows])


def _blocks(grid: Grid, mark: str) -> list[str]:
    named = replace(grid, rows=[[f"`{row[0]}`", *row[1:]] for row in grid.rows])
    return [f"## {grid.title} ({mark})", table(named), *grid.notes]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|').replace(LEAKS, f'**{LEAKS}**') for cell in cells)} |"
