"""What is measured of a challenger, and of the champion beside it, on the test cases that both may be judged on."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from stages.compare.contenders import Contender
from stages.compare.intervals import Hits, Statistic, balanced, balanced_over_present, hits, recalls, worst
from stages.contracts.errors import StageError
from stages.contracts.manifest import LABELS
from stages.contracts.operating import threshold_at_specificity

LABELLED_CASES = "breakhis"
"""The source whose cases have one label each; an IDC case holds benign and malignant patches side by side."""

LEAST_CASES_OF_A_LABEL = 2
"""Of a rate over one case every resample that holds the case says the same: it has no interval."""


@dataclass(frozen=True)
class Pair:
    """Both models' decisions on the same images of one source.

    test, val: with `right_challenger` and `malignant_challenger`, and the same of `_champion` where there is one. test
    is of cases that were in neither model's train or val, val of cases in neither's train.
    """

    source: str
    challenger: Contender
    champion: Contender | None
    test: pd.DataFrame
    val: pd.DataFrame

    @property
    def models(self) -> dict[str, Contender]:
        """challenger, and champion where there is one."""
        return {"challenger": self.challenger} | ({"champion": self.champion} if self.champion else {})

    @property
    def cases(self) -> list[str]:
        """What is resampled."""
        return sorted(self.test["case_id"].unique())


@dataclass(frozen=True)
class Measurement:
    """A rate: right calls by case and group, and how they become a number. fault: why there is no number."""

    name: str
    statistic: Statistic
    hits: Hits
    note: str = ""
    fault: str = ""


def paired(challenger: Contender, champion: Contender | None, source: str) -> Pair:
    """The images of `source` on which both may be judged."""
    rows = {split: _side_by_side(challenger, champion, source, split) for split in ("test", "val")}
    return Pair(source, challenger, champion, rows["test"], rows["val"])


def measurements(pair: Pair) -> list[Measurement]:
    """All that is compared on one source, in the order of the report. The pair holds at least one case."""
    whole = balanced_over_present if pair.challenger.task == "subtype" else balanced
    found = [_measured("balanced_accuracy", pair, pair.test, whole)]
    found += _at_the_champions_point(pair)
    if pair.source == LABELLED_CASES:
        units = _joined({who: model.units(pair.test.index, pair.source) for who, model in pair.models.items()})
        found.append(_measured("balanced_accuracy_by_case", pair, units, whole))
        found.append(_worst_subtype(pair))
    return found


def val_balanced_accuracy(contender: Contender, source: str) -> float:
    """What a challenger is chosen by: balanced accuracy on its val images, over the classes that are there."""
    rows = _side_by_side(contender, None, source, "val")
    if rows.empty:
        raise StageError(f"{contender.name} has no val image of {source} to be chosen by; give the index more cases")
    found = hits(rows, sorted(rows["case_id"].unique()), "target", ["right_challenger"])
    return float(balanced_over_present(_recalls_of(found)[0][None])[0])


def _side_by_side(challenger: Contender, champion: Contender | None, source: str, split: str) -> pd.DataFrame:
    """Decisions of both on the images of one part of the challenger's index, by image."""
    barred = {"train", "val"} if split == "test" else {"train"}
    rows = challenger.predictions
    rows = rows[(rows["source"] == source) & (rows["split"] == split)]
    models = {"challenger": challenger} | ({"champion": champion} if champion else {})
    met = {case for case in rows["case_id"].unique() if any(one.has_met(case, barred) for one in models.values())}
    chosen = rows.index[~rows["case_id"].isin(met)]
    if champion:
        chosen = chosen.intersection(champion.predictions.index, sort=True)
    return _joined({who: model.images(chosen, source) for who, model in models.items()})


def _joined(decisions: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The challenger's rows with both models' decisions; all frames hold the same rows in the same order."""
    return decisions["challenger"].assign(
        **{f"{name}_{who}": rows[name].to_numpy() for who, rows in decisions.items() for name in ("malignant", "right")}
    )


def _measured(name: str, pair: Pair, rows: pd.DataFrame, statistic: Statistic) -> Measurement:
    found = hits(rows, pair.cases, "target", [f"right_{who}" for who in pair.models])
    return Measurement(name, statistic, found, fault=_thin(found, (0, 1)) if statistic is balanced else "")


def _thin(found: Hits, labels: tuple[int, ...]) -> str:
    """Which of the labels rests on too few cases for an interval; empty if none does."""
    cases = dict(zip(found.groups, found.cases.tolist(), strict=True))
    few = {LABELS[one]: cases.get(str(one), 0) for one in labels if cases.get(str(one), 0) < LEAST_CASES_OF_A_LABEL}
    said = " and ".join(f"{number} {name}" for name, number in few.items())
    return f"test cases: {said}; an interval needs {LEAST_CASES_OF_A_LABEL} of each" if few else ""


def _at_the_champions_point(pair: Pair) -> list[Measurement]:
    """Sensitivity, and the specificity that it was bought with, at the champion's locked operating point.

    The point is a false-alarm rate, not a number to hold another model's probabilities against: those of a second model
    lie on a scale of their own, and one that calls everything more likely would win by it. So the champion keeps its
    locked threshold, and the challenger gets the lowest one that reaches, on the same val images, the specificity that
    the champion's has there. Test chooses nothing. Without a champion it is the challenger's own locked point.
    """
    thresholds = {who: model.operating.thresholds[pair.source] for who, model in pair.models.items()}
    note = ""
    if pair.champion:
        label = pair.val["label"].to_numpy()
        if len(np.unique(label)) < 2:
            fault = "val holds one label only, so the champion's point has no specificity to match"
            return [Measurement("sensitivity", balanced, _hits_of_label(pair, thresholds, 1), fault=fault)]
        benign = pair.val["malignant_champion"].to_numpy()[label == 0]
        specificity = float((benign < thresholds["champion"]).mean())
        malignant = pair.val["malignant_challenger"].to_numpy()
        thresholds["challenger"] = threshold_at_specificity(label, malignant, specificity)
        note = f"at the champion's specificity on val, {specificity:.3f}"
    return [
        Measurement(name, balanced, found, note, _thin(found, (label,)))
        for name, label in (("sensitivity", 1), ("specificity", 0))
        for found in [_hits_of_label(pair, thresholds, label)]
    ]


def _hits_of_label(pair: Pair, thresholds: dict[str, float], label: int) -> Hits:
    """Images of one label that are called so at these thresholds."""
    rows = pair.test[pair.test["label"] == label]
    called = {who: (rows[f"malignant_{who}"] >= threshold) == bool(label) for who, threshold in thresholds.items()}
    return hits(rows.assign(**called), pair.cases, "label", list(called))


def _worst_subtype(pair: Pair) -> Measurement:
    """Recall of the subtype that each model recognises worst, whichever that is; the note names it."""
    rows = pair.test[pair.test["subtype"].notna()]
    found = hits(rows, pair.cases, "subtype", [f"right_{who}" for who in pair.models])
    if not found.groups:
        return Measurement("worst_subtype", worst, found, fault="no test image has a subtype")
    shares = dict(zip(pair.models, _recalls_of(found), strict=True))
    note = ", ".join(f"{who} {found.groups[int(share.argmin())]}" for who, share in shares.items())
    if pair.champion:
        change = shares["challenger"] - shares["champion"]
        fell = int(change.argmin())
        if change[fell] < 0:
            note += f"; fell furthest: {found.groups[fell]} by {-change[fell]:.3f}"
    return Measurement("worst_subtype", worst, found, note)


def _recalls_of(found: Hits) -> list[np.ndarray]:
    """Recall of each group over all cases, (groups,) a model."""
    once = np.ones((1, len(found.images)))
    return [recalls(once, found.images, right)[0] for right in found.right]
