"""Puts cases into the program and reads the answer back: what is counted, what is demanded, what could not be had."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.contracts.errors import StageError
from stages.contracts.manifest import BENIGN, LABELS
from stages.index.split import Demand, Search, divide

BENIGN_CASES = 4
"""Benign BreakHis cases wanted in each part that is scored: with two, one case is 50 points of specificity."""


CASE_SHARE = 0.75
"""Of the cases that a scored part is due by its ratio, it gets at least this share. Demanded because 15 % of the images
can be the 3 % of cases that are large (7 of 243 in one search), and an interval over so few cases says nothing."""


DOMINANT = 3
"""A case of over one part in this many of a scored part would be most of what is measured there: the pooled figures
of that part say how well the model does on one case."""


@dataclass(frozen=True)
class Placing:
    """The part of each case (index: case_id, sorted), and what the report says of the search."""

    parts: pd.Series
    findings: dict[str, Any]


def strata(rows: pd.DataFrame) -> pd.Series:
    """The stratum of each image: `subtype DC` where a subtype is known (BreakHis), else `label benign` (IDC)."""
    by_label = "label " + rows["label"].map(dict(enumerate(LABELS))).astype("str")
    return ("subtype " + rows["subtype"].astype("str")).where(rows["subtype"].notna(), by_label)


def dominant(rows: pd.DataFrame, ratios: Mapping[str, float]) -> dict[str, float]:
    """Cases of one source too large to be scored, with their share of its images, 0-1: they belong in train.

    Those that would fill over a third of val or of test, the largest first, as long as they fill at most half of train
    and leave two cases of each of their strata to val and test (where a stratum has three).
    """
    table = pd.crosstab(rows["case_id"], strata(rows)).sort_index(axis=0).sort_index(axis=1)
    shares = (table.sum(axis=1) / len(rows)).sort_values(ascending=False, kind="stable")
    limit = min(ratio for part, ratio in ratios.items() if part != "train") / DOMINANT
    left = (table > 0).sum()
    scarce = left >= len(ratios)
    found: dict[str, float] = {}
    for case, share in shares[shares > limit + 1e-9].items():
        held = table.loc[case] > 0
        fits = sum(found.values()) + share <= ratios["train"] / 2
        if fits and (left[held & scarce] > len(ratios) - 1).all():
            found[str(case)] = float(share)
            left -= held
    return found


def place(
    rows: pd.DataFrame,
    ratios: Mapping[str, float],
    fixed: Mapping[str, str],
    search: Search,
    rng: np.random.Generator,
) -> Placing:
    """Put each case of one source into one of the parts named by `ratios` (part -> share of the images, sum 1).

    fixed: case -> part, for cases that have no choice. Demanded: a case in every part; of every stratum with at least
    as many cases as there are parts, one in every part; in every part but train, CASE_SHARE of the cases it is due, and
    of benign BreakHis cases min(4, benign // 4) (with k > 4 parts, benign // k). The answer depends on the set of rows,
    not on their order.
    Raises StageError if there are fewer cases than parts.
    """
    table = pd.crosstab(rows["case_id"], strata(rows)).sort_index(axis=0).sort_index(axis=1)
    names = list(ratios)
    if len(table) < len(names):
        raise StageError(
            f"{rows['source'].iloc[0]} has {len(table)} cases, and {len(names)} parts ({', '.join(names)}) need at "
            f"least {len(names)}: give more cases, or take the source out (profiles.<profile>.<source>: null)"
        )
    demands = _demands(table, _benign(rows, table.index), ratios)
    numbers = {case: number for number, case in enumerate(table.index)}
    division = divide(
        table.to_numpy(),
        list(ratios.values()),
        demands,
        {numbers[case]: names.index(part) for case, part in fixed.items() if case in numbers},
        search=search,
        rng=rng,
    )
    parts = pd.Series([names[part] for part in division.part], index=table.index, name="part")
    findings = {
        "gap": round(division.gap, 6),
        "nodes": division.nodes,
        "node_limit_reached": division.node_limit_reached,
        "not_in_all_parts": _not_in_all_parts(table, parts, names),
        "lowered": [
            f"{demand.name} in {names[demand.part]}: wanted {demand.minimum}, possible {minimum}"
            for demand, minimum in division.lowered
        ],
    }
    return Placing(parts, findings)


def _benign(rows: pd.DataFrame, cases: pd.Index) -> np.ndarray:
    """(cases,) bool: BreakHis cases whose images are all benign."""
    is_benign = ((rows["label"] == BENIGN) & (rows["source"] == "breakhis")).astype(bool)
    return is_benign.groupby(rows["case_id"]).all().reindex(cases).to_numpy(dtype=bool)


def _demands(table: pd.DataFrame, benign: np.ndarray, ratios: Mapping[str, float]) -> list[Demand]:
    """What must hold in every part, as `place` says."""
    everyone = np.ones(len(table), dtype=bool)
    wanted_benign = min(BENIGN_CASES, int(benign.sum()) // max(BENIGN_CASES, len(ratios)))
    demands = []
    for part, (name, ratio) in enumerate(ratios.items()):
        due = 0 if name == "train" else int(CASE_SHARE * ratio * len(table))
        demands.append(Demand("cases", everyone, part, max(1, due)))
        for stratum in table.columns:
            has = (table[stratum] > 0).to_numpy()
            if has.sum() >= len(ratios):
                demands.append(Demand(f"cases of {stratum}", has, part, 1))
        if name != "train" and wanted_benign:
            demands.append(Demand("benign cases", benign, part, wanted_benign))
    return demands


def _not_in_all_parts(table: pd.DataFrame, parts: pd.Series, names: list[str]) -> list[dict[str, Any]]:
    """Strata that at least one part lacks, for want of cases or because demands contradicted one another."""
    found = []
    for stratum in table.columns:
        cases = table.index[table[stratum] > 0]
        present = [name for name in names if (parts[cases] == name).any()]
        if len(present) < len(names):
            found.append({"stratum": stratum, "cases": len(cases), "present_in": present})
    return found
