"""The report: one self-contained page, readable without a network and without a script."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.compare import drawings
from stages.compare.collect import Findings, Result
from stages.compare.drawings import NAMES
from stages.compare.grids import (
    LEAKS,
    metric_grids,
    models_grid,
    quarantine_grid,
    reported_grid,
    rows_sentence,
    sources_grid,
    split_grid,
    what_was_run,
)
from stages.compare.rows import shared_cases, status
from stages.compare.table import MARKS
from stages.contracts.modelfolder import ModelRecord

TEMPLATE = Path(__file__).with_name("page.html.jinja")


@dataclass(frozen=True)
class Figure:
    """An inline SVG and the words for those who do not see it."""

    svg: str
    spoken: str


@dataclass(frozen=True)
class Portrait:
    """What is shown of one recipe."""

    recipe: str
    status: str
    facts: list[tuple[str, str]]
    warnings: list[str]
    figures: list[Figure]


def rendered(findings: Findings, table: pd.DataFrame) -> str:
    """The page as HTML. table: `comparison` of the same findings."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        mark=findings.data,
        meaning=MARKS[findings.data],
        cards=_cards(findings),
        splits=findings.splits,
        rows_sentence=rows_sentence(findings.validation),
        metrics=metric_grids(table),
        run=[what_was_run(table), models_grid(table)],
        reported=reported_grid(findings),
        parts=split_grid(findings),
        sources=sources_grid(findings.validation),
        quarantine=quarantine_grid(findings.validation),
        failed=[one for one in findings.validation["expectations"] if not one["success"]],
        rules=len(findings.validation["expectations"]),
        overview=_overview(findings),
        portraits=[_portrait(result, findings) for result in findings.results],
    )


def _cards(findings: Findings) -> list[tuple[str, str]]:
    """The few facts at the top: number and what it counts. Cases that were also trained on do not count as test."""
    results, rows = findings.results, findings.validation["rows"]
    sound = [result for result in results if not shared_cases(findings, result)]
    ran = sum(isinstance(result.record, ModelRecord) for result in results)
    cards = [(f"{ran} of {len(results)}", "recipes run"), (f"{rows['validated']:,}", "images validated")]
    for source, name in NAMES.items():
        counts = [result.score(source, "accuracy", field="n_cases") for result in sound]
        most = max((count for count in counts if count is not None), default=None)
        cards.append((f"{most:,.0f}" if most is not None else "none", f"{name} cases in test"))
    return cards


def _overview(findings: Findings) -> list[Figure]:
    """ROC curves of all recipes, a figure for each source."""
    figures = []
    for source, name in NAMES.items():
        lines = {}
        for result in findings.results:
            points = _of(result.plots["roc"], source)
            if len(points):
                leaks = f" ({LEAKS})" if shared_cases(findings, result) else ""
                lines[f"{result.recipe}{leaks}"] = points
        if lines:
            title = f"ROC, {name} by image ({findings.data})"
            figures.append(Figure(drawings.roc(lines, title), f"{title}: {', '.join(lines)}"))
    return figures


def _portrait(result: Result, findings: Findings) -> Portrait:
    record = result.record
    if not isinstance(record, ModelRecord):
        return Portrait(result.recipe, status(result), [], [], [])
    leaks = shared_cases(findings, result)
    warnings = [f"This split leaks: {sentence}" for sentence in leaks]
    warnings += [f"Trained without {source}, which the recipe asks for" for source in record.missing_sources]
    warnings += [*record.notes, *result.operating.get("notes", [])]
    return Portrait(result.recipe, "ok", _facts(result, record), warnings, _figures(result, record, findings.data))


def _facts(result: Result, record: ModelRecord) -> list[tuple[str, str]]:
    settings = result.settings
    point = result.operating
    thresholds = ", ".join(f"{source} {value:.3f}" for source, value in point["thresholds"].items())
    return [
        ("architecture", f"{settings['arch']}, {record.image_size} px, {record.view}"),
        (
            "size",
            f"{record.parameters / 1e6:.2f} M parameters, {record.trained_parameters / 1e6:.2f} M of them trained; "
            f"{record.macs / 1e6:,.1f} M multiply-accumulates",
        ),
        (
            "trained on",
            f"{' + '.join(record.sources)}: {record.train_images:,} images, {len(record.class_names)} classes",
        ),
        ("start weights", record.start.init + (f" ({record.start.note})" if record.start.note else "")),
        ("kept epoch", f"{record.best_epoch} of {record.epochs}, chosen on val"),
        ("temperature, thresholds", f"{point['temperature']:.3f}; {thresholds}; fitted on val"),
    ]


def _figures(result: Result, record: ModelRecord, mark: str) -> list[Figure]:
    """The plots of one recipe, those without a point left out."""
    by_source: dict[str, dict[str, pd.DataFrame]] = {
        plot: {NAMES[source]: part for source in record.sources if len(part := _of(table, source))}
        for plot, table in result.plots.items()
    }
    of = f"of {result.recipe}, test ({mark})"
    figures = []
    if by_source["roc"]:
        figures.append(Figure(drawings.roc(by_source["roc"], f"ROC ({mark})"), f"ROC curve {of}"))
        title = f"Precision and recall ({mark})"
        figures.append(Figure(drawings.precision_recall(by_source["pr"], title), f"Precision-recall curve {of}"))
    if by_source["calibration"]:
        title = f"Calibration ({mark})"
        figures.append(Figure(drawings.calibration(by_source["calibration"], title), f"Calibration {of}"))
    for name, table in by_source["confusion"].items():
        figures.append(Figure(drawings.confusion(table, f"Confusion, {name} ({mark})"), f"Confusion, {name}, {of}"))
    if len(result.curves):
        drawn = drawings.training(result.curves, record.best_epoch, f"Training ({mark})")
        figures.append(Figure(drawn, f"Training curves {of}"))
    return figures


def _of(table: pd.DataFrame, source: str) -> pd.DataFrame:
    return table[table["source"] == source]
