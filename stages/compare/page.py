"""The report: one self-contained page, readable without a network and without a script."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.compare import drawings
from stages.compare.collect import Ensemble, Findings, Result
from stages.compare.drawings import NAMES
from stages.compare.figures import Figure, auroc, malignant_roc
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
from stages.compare.rows import shared_cases, start_text, status
from stages.compare.table import MARKS
from stages.contracts.modelfolder import ModelRecord, Skipped

TEMPLATE = Path(__file__).with_name("page.html.jinja")


@dataclass(frozen=True)
class Portrait:
    """What is shown of one recipe."""

    recipe: str
    status: str
    facts: list[tuple[str, str]]
    warnings: list[str]
    figures: Sequence[Figure]
    searched: bool = False


def rendered(findings: Findings, table: pd.DataFrame, drawn: Mapping[str, Sequence[Figure]]) -> str:
    """The page as HTML. table: `comparison` of the same findings. drawn: recipe -> its figures."""
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
        averaged=any(result.is_ensemble for result in findings.results),
        overview=_overview(findings),
        portraits=[_portrait(result, findings, drawn[result.recipe]) for result in findings.results],
    )


def _cards(findings: Findings) -> list[tuple[str, str]]:
    """The few facts at the top: number and what it counts. Cases that were also trained on do not count as test."""
    results, rows = findings.results, findings.validation["rows"]
    sound = [result for result in results if not shared_cases(findings, result)]
    recipes, ensembles = ([one for one in results if one.is_ensemble == wanted] for wanted in (False, True))
    cards = [(f"{sum(one.ran for one in recipes)} of {len(recipes)}", "recipes run")]
    if ensembles:
        cards.append((f"{sum(one.ran for one in ensembles)} of {len(ensembles)}", "ensembles averaged"))
    cards.append((f"{rows['validated']:,}", "images validated"))
    for source, name in NAMES.items():
        counts = [result.score(source, "accuracy", field="n_cases") for result in sound]
        most = max((count for count in counts if count is not None), default=None)
        cards.append((f"{most:,.0f}" if most is not None else "none", f"{name} cases in test"))
    return cards


def _overview(findings: Findings) -> list[Figure]:
    """ROC curves of all recipes, a figure for each source, the best first in its legend."""
    found = []
    for source, name in NAMES.items():
        lines = {}
        scored = [(value, one) for one in findings.results if (value := auroc(one, source)) is not None]
        for value, result in sorted(scored, key=lambda pair: -pair[0]):
            if source in (curves := malignant_roc(result)):
                leaks = f" ({LEAKS})" if shared_cases(findings, result) else ""
                lines[f"{value:.3f} {result.recipe}{leaks}"] = curves[source]
        if lines:
            title = f"ROC of malignant, {name} by image ({findings.data})"
            found.append(Figure(f"roc_{source}", drawings.roc_beside(lines, title), f"{title}: {', '.join(lines)}"))
    return found


def _portrait(result: Result, findings: Findings, drawn: Sequence[Figure]) -> Portrait:
    record = result.record
    if isinstance(record, Skipped):
        return Portrait(result.recipe, status(result), [], [], [])
    leaks = shared_cases(findings, result)
    warnings = [f"This split leaks: {sentence}" for sentence in leaks]
    if isinstance(record, ModelRecord):
        warnings += [f"Trained without {source}, which the recipe asks for" for source in record.missing_sources]
    warnings += [*record.notes, *result.operating.get("notes", [])]
    facts = _facts(result, record) if isinstance(record, ModelRecord) else _averaged(result, record)
    return Portrait(result.recipe, "ok", facts, warnings, drawn, searched=result.searched)


def _thresholds(result: Result) -> str:
    return ", ".join(f"{source} {value:.3f}" for source, value in result.operating["thresholds"].items())


def _averaged(result: Result, ensemble: Ensemble) -> list[tuple[str, str]]:
    """The facts of an ensemble."""
    return [
        (
            "mean of",
            ", ".join(ensemble.record.averaged) + ": of their calibrated probabilities, each counting the same",
        ),
        (
            "size",
            f"{ensemble.parameters / 1e6:.2f} M parameters, {ensemble.macs / 1e6:,.1f} M multiply-accumulates, "
            "over all members",
        ),
        ("training", "none of its own"),
        ("thresholds", f"{_thresholds(result)}; fitted on val; the temperature is that of each member"),
    ]


def _facts(result: Result, record: ModelRecord) -> list[tuple[str, str]]:
    settings = result.settings
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
        ("start weights", start_text(record)),
        ("kept epoch", f"{record.best_epoch} of {record.epochs}, chosen on val"),
        *([("values", f"chosen on val by a search: {settings['values']}")] if result.searched else []),
        ("temperature, thresholds", f"{result.operating['temperature']:.3f}; {_thresholds(result)}; fitted on val"),
    ]
