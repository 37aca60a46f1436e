"""The card of each recipe and ensemble: what it is for, what made it, how well it does, and where it ends."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from stages.compare.collect import Ensemble, Findings, Result
from stages.compare.drawings import NAMES
from stages.compare.grids import LEVELS, UNKNOWN, Grid, cell, rows_sentence
from stages.compare.markdown import table
from stages.compare.rows import against_reported, shared_cases, start_text, trained_sources
from stages.compare.table import MARKS
from stages.contracts.files import appearing
from stages.contracts.manifest import SUBTYPES
from stages.contracts.modelfolder import ModelRecord, Skipped

CARDS = Path("reports/cards")
TEMPLATE = Path(__file__).with_name("card.md.jinja")
FEW_CASES = 20
"""Below so many test cases one case moves a rate by 5 points or more, and the card says so."""

METRICS = {
    "balanced_accuracy": "balanced accuracy", "auroc": "AUROC", "f1": "F1", "precision": "precision",
    "sensitivity": "sensitivity (recall)", "specificity": "specificity", "accuracy": "accuracy",
}  # fmt: skip
"""Metric -> its heading in a card; the page, which has all recipes in a table, does without precision."""
OF_TWO = ("precision", "sensitivity", "specificity")
"""Metrics that eight classes have of benign against malignant only."""
EIGHT_CLASSES = (
    "Balanced accuracy, AUROC (one against the rest) and F1 are means over the classes that are present; "
    "precision, sensitivity and specificity are of malignant against benign."
)

TRAINING = (
    ("optimizer", "optimizer"), ("lr", "learning rate"), ("schedule", "schedule"), ("decay", "decay per epoch"),
    ("weight_decay", "weight decay"), ("batch_size", "batch size"), ("freeze", "frozen"), ("phases", "phases"),
    ("head", "head"), ("sampler", "sampler"), ("loss", "loss"), ("class_weights", "class weights"),
    ("label_smoothing", "label smoothing"), ("mixup", "MixUp"), ("cutmix", "CutMix"), ("augment", "augmentation"),
    ("ema", "moving average of the weights"), ("seed", "seed"),
)  # fmt: skip
"""Setting of a recipe -> how the card calls it; what is off is left out."""


def card(result: Result, findings: Findings, figures: Sequence[str]) -> str:
    """The card as Markdown. figures: names of the files below reports/figures/<recipe>/."""
    from jinja2 import Environment, StrictUndefined

    # Nothing is escaped, for this is no HTML; names from params.yaml stand in Markdown that a git host makes safe.
    environment = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # noqa: S701
    settings, record = result.settings, result.record
    protocol = findings.splits[str(settings["protocol"])]
    text = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        name=result.recipe,
        mark=findings.data,
        meaning=MARKS[findings.data],
        what=_what(result),
        reason=record.reason if isinstance(record, Skipped) else None,
        ensemble=result.is_ensemble,
        sources=" and ".join(NAMES[source] for source in trained_sources(result)),
        image_size=record.image_size if isinstance(record, ModelRecord) else None,
        output=_output(result),
        rows_sentence=rows_sentence(findings.validation),
        data=_data(result, findings),
        protocol=settings["protocol"],
        fold=f", fold {settings['fold']}" if settings["fold"] else "",
        disjointness=protocol["disjointness"],
        policy=protocol["policy"],
        leaks=shared_cases(findings, result),
        training=_training(result),
        intervals=_intervals(result),
        metrics=_metrics(result),
        classes_note=EIGHT_CLASSES if settings["task"] == "subtype" else "",
        strata=[grid for source in trained_sources(result) for grid in _strata(result, source)],
        reported=_reported(result),
        figures=figures,
        limits=_limits(result, findings),
        table=table,
    )
    return re.sub(r"\n{3,}", "\n\n", text).rstrip() + "\n"  # a block left out leaves its blank lines


def write_cards(cards: Mapping[str, str], folder: Path = CARDS) -> None:
    """Write the card of every recipe below `folder`, all or none."""
    with appearing(folder) as part:
        part.mkdir()
        for recipe, text in cards.items():
            (part / f"{recipe}.md").write_text(text, encoding="utf-8")


def _what(result: Result) -> str:
    settings = result.settings
    task = (
        "benign from malignant" if settings["task"] == "binary" else "the eight subtypes of BreakHis from one another"
    )
    arch = settings["arch"] if result.is_ensemble else f"`{settings['arch']}`"
    said = f"{arch[0].upper()}{arch[1:]}, to tell {task}"
    return f"{said}; reproduces `{settings['reproduces']}`." if settings["reproduces"] else f"{said}."


def _output(result: Result) -> str:
    if result.settings["task"] == "binary":
        return "P(malignant), and a decision at the threshold of its data set"
    return f"a probability for each of {', '.join(SUBTYPES)}, their sum over the malignant four, and a decision on it"


def _data(result: Result, findings: Findings) -> Grid:
    """Images and cases of each part and source, and where they came from."""
    rows = []
    for source in result.settings["sources"]:
        origin = findings.validation["sources"].get(source, {"present": False})
        parts = _counts(result, findings, source)
        sizes = [f"{part['images']:,} / {part['cases']:,}" for part in parts.values()] or [UNKNOWN] * 3
        kind = f"{origin['kind']}, licence {cell(origin['licence'])}" if origin["present"] else "absent"
        rows.append([NAMES[source], kind, *sizes])
    return Grid("", ["data set", "origin", "train, images / cases", "val", "test"], rows, 2)


def _counts(result: Result, findings: Findings, source: str) -> dict[str, dict[str, int]]:
    """Part -> images and cases of the split that the recipe used; empty where the split left the source out."""
    folds = findings.splits[str(result.settings["protocol"])]["sources"].get(source, {}).get("counts", {})
    parts = folds.get(str(result.settings["fold"]), {})
    return {part: parts[part] for part in ("train", "val", "test") if part in parts}


def _training(result: Result) -> list[tuple[str, str]]:
    record = result.record
    if result.is_ensemble:
        members = ", ".join(record.record.averaged) if isinstance(record, Ensemble) else "none"
        return [
            ("averaged", f"{members}; the calibrated probabilities, each counting the same"),
            ("training", "none; the thresholds are its own, locked on val"),
        ]
    facts = []
    if isinstance(record, ModelRecord):
        trained, whole = record.trained_parameters / 1e6, record.parameters / 1e6
        facts = [
            ("size", f"{whole:.2f} M parameters, {trained:.2f} M of them trained; {record.macs / 1e6:,.1f} M MACs"),
            ("start weights", start_text(record)),
            ("images", f"{record.train_images:,} of {' + '.join(NAMES[source] for source in record.sources)}"),
            ("epochs", f"{record.epochs}, of which {record.best_epoch} was kept, the best on val"),
            *([("values", f"chosen on val by a search: `{result.settings['values']}`")] if result.searched else []),
        ]
    return facts + [
        (name, _setting(result.settings[key]))
        for key, name in TRAINING
        if result.settings.get(key) not in (None, 0, 0.0, False, [], "natural") and _setting(result.settings[key])
        if (key, result.settings[key]) != ("decay", 1.0)
    ]


def _setting(value: Any) -> str:
    """A setting in words; of a group only what is on."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_setting(one)}".replace(" yes", "") for key, one in value.items() if one)
    if isinstance(value, list):
        return "; ".join(_setting(one) for one in value)
    return "yes" if value is True else str(value)


def _intervals(result: Result) -> str:
    """What the brackets hold; empty as long as the scores have no interval."""
    return "interval over cases" if result.scores["low"].notna().any() else ""


def _metrics(result: Result) -> Grid:
    """The headline metrics of each data set and level that was scored."""
    rows = []
    for title, prefix, source in LEVELS:
        scores = result.scores_of(source, level="case" if prefix.endswith("case") else "image")
        scores = scores[scores["stratum"] == "all"].set_index("metric")
        if "accuracy" in scores.index:
            counts = [f"{scores.at['accuracy', count]:,.0f}" for count in ("n_images", "n_cases")]
            rows.append([title, *counts, *(_value(scores, _metric(metric, result)) for metric in METRICS)])
    return Grid("", ["test part", "images", "cases", *METRICS.values()], rows, 1)


def _metric(metric: str, result: Result) -> str:
    """How the scores call a metric."""
    name = {"sensitivity": "recall"}.get(metric, metric)
    return f"binary.{name}" if result.settings["task"] == "subtype" and metric in OF_TWO else name


def _value(scores: pd.DataFrame, metric: str) -> str:
    """A value of scores indexed by metric, with its interval where there is one; a dash where it is undefined."""
    if metric not in scores.index or pd.isna(scores.at[metric, "value"]):
        return UNKNOWN
    row = scores.loc[metric]
    interval = "" if pd.isna(row["low"]) else f" [{row['low']:.3f}, {row['high']:.3f}]"
    return f"{row['value']:.3f}{interval}"


def _strata(result: Result, source: str) -> list[Grid]:
    """By magnification, and by subtype, of a data set that has them; at image level."""
    scores = result.scores_of(source)
    found = []
    chosen = ("balanced_accuracy", "auroc", "sensitivity", "specificity")
    rows = []
    by_scale = scores[scores["stratum"].str.startswith("magnification=")]
    for stratum in sorted(by_scale["stratum"].unique(), key=lambda name: int(name.partition("=")[2])):
        part = by_scale[by_scale["stratum"] == stratum].set_index("metric")
        values = [_value(part, _metric(metric, result)) for metric in chosen]
        rows.append([f"{stratum.partition('=')[2]}X", f"{part['n_images'].iloc[0]:,.0f}", *values])
    if rows:
        headings = ["magnification", "images", *(METRICS[metric] for metric in chosen)]
        found.append(Grid(f"{NAMES[source]}, by magnification", headings, rows, 1))
    if subtypes := _by_subtype(result, scores):
        found.append(Grid(f"{NAMES[source]}, by subtype", *subtypes, 1))
    return found


def _by_subtype(result: Result, scores: pd.DataFrame) -> tuple[list[str], list[list[str]]] | None:
    """Headings and rows: of eight classes one against the rest, of two the share of each subtype called right."""
    if result.settings["task"] == "subtype":
        whole = scores[scores["stratum"] == "all"].set_index("metric")
        measures = ("recall", "precision", "f1", "auroc")
        rows = [[name, *(_value(whole, f"{name}.{measure}") for measure in measures)] for name in SUBTYPES]
        return (["subtype", "recall", "precision", "F1", "AUROC"], rows) if len(whole) else None
    rows = []
    for name in SUBTYPES:
        part = scores[scores["stratum"] == f"subtype={name}"].set_index("metric")
        if len(part):
            rows.append(
                [name, *(f"{part[count].iloc[0]:,.0f}" for count in ("n_images", "n_cases")), _value(part, "accuracy")]
            )
    return (["subtype", "images", "cases", "called right"], rows) if rows else None


def _reported(result: Result) -> Grid:
    rows = [
        [one["quantity"], one["reported"], cell(one["measured"]), cell(one["part"])] for one in against_reported(result)
    ]
    return Grid("", ["quantity", "reported", "measured here", "part"], rows, 1)


def _limits(result: Result, findings: Findings) -> list[str]:
    """What weakens this recipe's numbers, in sentences."""
    record = result.record
    limits = [f"The data is {findings.data}: {MARKS[findings.data]}."] if findings.data != "full" else []
    if not isinstance(record, Skipped):
        for source in record.sources:
            cases = result.score(source, "accuracy", field="n_cases")
            if cases is not None and cases < FEW_CASES:
                limits.append(
                    f"Test holds {cases:.0f} cases of {NAMES[source]}: one case more or less moves its rates by "
                    f"{100 / cases:.0f} points if its images go together."
                )
        limits += [f"{NAMES[source]} is asked for and was not to be had." for source in record.missing_sources]
        limits += [f"{note}." for note in [*record.notes, *result.operating.get("notes", [])]]
    if isinstance(record, ModelRecord) and record.untrained_classes:
        limits.append(f"No training image of {', '.join(record.untrained_classes)}: these are never recognised.")
    if (
        isinstance(record, ModelRecord)
        and record.settings.get("start") == "weights/imagenet"
        and record.start.init == "random"
    ):
        limits.append("It started from random weights where the recipe asks for ImageNet's, and learned less for it.")
    if "idc" in trained_sources(result):
        limits.append("An IDC patch is 50 x 50 pixels of a reduced scan: it shows little tissue, and none around it.")
    if "breakhis" in trained_sources(result):
        limits.append("BreakHis is of one laboratory: 70 accession numbers, 16 of them benign.")
    if not _intervals(result):
        limits.append("There are no intervals yet: differences of a few points between recipes are noise.")
    return [*limits, "Its probabilities are calibrated for the share of malignant images in val, not for a clinic's."]
