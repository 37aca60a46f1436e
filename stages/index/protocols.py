"""The four protocols: rows in, the same rows with `split` and `fold` out, and what the report says of each source."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from stages.contracts.errors import StageError
from stages.contracts.index import PARTS
from stages.contracts.manifest import SOURCES
from stages.contracts.sections import Protocol
from stages.index import published
from stages.index.cases import Placing, dominant, place, strata
from stages.index.params import IndexParams
from stages.index.split import Search

TO_TRAIN = {
    "breakhis-14-21998": "it holds 6.2 % of BreakHis's images and is one of the three cases with a phyllodes tumour: "
    "in val or test it would be most of what is measured there"
}
"""Cases that go to train by rule, with the reason."""


@dataclass(frozen=True)
class Plan:
    """rows with `split` and `fold`; findings: source -> what the report says of how it was parted."""

    rows: pd.DataFrame
    findings: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class _Parted:
    """One source: fold -> part of each row (index of the rows that take part), and findings."""

    folds: dict[int, pd.Series]
    findings: dict[str, Any]


def plan(protocol: Protocol, rows: pd.DataFrame, settings: IndexParams, frozen: Mapping[str, str]) -> Plan:
    """Part validated `rows` by `protocol`. frozen: case -> part, kept by the protocol case, read by no other.

    Each source is parted by itself: one joint program does not close in reasonable time, and IDC would drown BreakHis.
    Raises StageError if a source has too few cases, or no source takes part.
    """
    parted: dict[str, _Parted] = {}
    for source, own in _by_source(rows):
        parted[source] = _PROTOCOLS[protocol](own, settings, frozen)
    pieces = [
        rows.loc[split.index].assign(split=split.astype("str"), fold=fold)
        for one in parted.values()
        for fold, split in one.folds.items()
    ]
    if not pieces:
        raise StageError(
            f"no image takes part in the protocol {protocol}: "
            + ("the publishers' lists name none of these cases; use another protocol" if len(rows) else "there is none")
        )
    return Plan(pd.concat(pieces), {source: one.findings for source, one in parted.items()})


def _by_source(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    for source in SOURCES:
        own = rows[rows["source"] == source].sort_values("image_id")
        if len(own):
            yield source, own


def _by_case(rows: pd.DataFrame, settings: IndexParams, frozen: Mapping[str, str]) -> _Parted:
    """70/15/15 by case."""
    cases = set(rows["case_id"])
    kept = {case: part for case, part in frozen.items() if case in cases}
    ratios = settings.parts.model_dump()
    reasons = {
        case: f"it holds {share:.1%} of the images; in val or test it would be over a third of what is measured there"
        for case, share in dominant(rows, ratios).items()
    }
    reasons = {case: reason for case, reason in (reasons | TO_TRAIN).items() if case in cases - kept.keys()}
    placing = place(rows, ratios, dict.fromkeys(reasons, "train") | kept, _search(settings), _rng(rows, settings))
    return _Parted(
        {0: rows["case_id"].map(placing.parts)},
        {"rules": _rules(reasons), "frozen_cases": len(kept), "searches": {"0": placing.findings}},
    )


def _kfold(rows: pd.DataFrame, settings: IndexParams, _: Mapping[str, str]) -> _Parted:
    """k folds by case; fold k's test is part k, its val is carved from the others."""
    names = {f"fold {number}": number for number in range(1, settings.folds + 1)}
    placing = place(rows, dict.fromkeys(names, 1 / settings.folds), {}, _search(settings), _rng(rows, settings))
    fold_of = rows["case_id"].map(placing.parts.map(names))
    folds, searches = {}, {"folds": placing.findings}
    for fold in names.values():
        others = rows[fold_of != fold]
        carved = _carve(others, settings.parts.val / (1 - 1 / settings.folds), {}, settings, fold)
        folds[fold] = others["case_id"].map(carved.parts).reindex(rows.index, fill_value="test")
        searches[str(fold)] = carved.findings
    return _Parted(folds, {"rules": [], "searches": searches})


def _image(rows: pd.DataFrame, settings: IndexParams, _: Mapping[str, str]) -> _Parted:
    """Random by image within each stratum: what leaks, built to measure by how much."""
    rng = _rng(rows, settings)
    split = pd.Series("", index=rows.index, dtype="str")
    for _stratum, members in rows.groupby(strata(rows), sort=True):
        ends = np.rint(np.array([settings.parts.train, settings.parts.train + settings.parts.val]) * len(members))
        places = np.searchsorted(ends, np.arange(len(members)), side="right")
        split[members.index[rng.permutation(len(members))]] = np.array(PARTS)[places]
    return _Parted({0: split}, {"rules": [], "searches": {}})


def _published(rows: pd.DataFrame, settings: IndexParams, _: Mapping[str, str]) -> _Parted:
    """The publisher's own split; rows that it does not name stay out."""
    source = rows["source"].iloc[0]
    parted = _published_idc(rows) if source == "idc" else _published_breakhis(rows, settings)
    for fold, split in parted.folds.items():
        lacking = [part for part in PARTS if not (split == part).any()]
        if lacking:
            raise StageError(
                f"published: no image of {source} is in {' or '.join(lacking)} of fold {fold}: the publisher's lists "
                "name too few of these cases; use another protocol for recipes on this data"
            )
    listed = next(iter(parted.folds.values())).index if parted.folds else rows.index[:0]
    out = rows[~rows.index.isin(listed)]
    outside = {"images": len(out), "cases": int(out["case_id"].nunique())}
    return _Parted(parted.folds, {"rules": [], "searches": {}, "in_no_list": outside} | parted.findings)


def _published_idc(rows: pd.DataFrame) -> _Parted:
    """IDC's case lists, the same in every fold."""
    lists = published.idc_parts()
    cases = set(rows["case_id"])
    absent = {part: [case for case, p in lists.items() if p == part and case not in cases] for part in PARTS}
    split = rows["case_id"].map(lists).dropna()
    folds = dict.fromkeys(range(1, published.FOLDS + 1), split) if len(split) else {}
    return _Parted(folds, {"listed_but_absent": absent})


def _published_breakhis(rows: pd.DataFrame, settings: IndexParams) -> _Parted:
    """BreakHis's five official folds, val carved from train by case; the leak between train and test is counted."""
    official = published.breakhis_folds()
    key = ["slide_id", "subtype"]
    sides = rows[key].astype("str").merge(official, how="left", on=key).set_axis(rows.index)
    listed = rows[sides["fold1"].notna()]
    present = set(listed[key].itertuples(index=False, name=None))
    absent = [" ".join(slide) for slide in official[key].itertuples(index=False, name=None) if slide not in present]
    folds: dict[int, pd.Series] = {}
    searches, rules, leaks = {}, set(), {}
    for fold in range(1, published.FOLDS + 1) if len(listed) else ():
        is_train = sides.loc[listed.index, f"fold{fold}"] == "train"
        train, test = listed[is_train], listed[~is_train]
        ruled = {case: "train" for case in TO_TRAIN if case in set(train["case_id"])}
        carved = _carve(train, settings.parts.val, ruled, settings, fold)
        folds[fold] = train["case_id"].map(carved.parts).reindex(listed.index, fill_value="test")
        searches[str(fold)], rules = carved.findings, rules | set(ruled)
        seen = int(test["case_id"].isin(set(train["case_id"])).sum())
        leaks[str(fold)] = {
            "test_images": len(test),
            "of_cases_in_official_train": seen,
            "share": round(seen / len(test), 4) if len(test) else None,
        }
    findings = {"listed_but_absent": absent, "leaks": leaks, "searches": searches}
    return _Parted(folds, findings | {"rules": _rules({case: TO_TRAIN[case] for case in rules})})


def _carve(rows: pd.DataFrame, share: float, fixed: Mapping[str, str], settings: IndexParams, fold: int) -> Placing:
    """Take `share` of the images, whole cases, out of train as val."""
    return place(rows, {"train": 1 - share, "val": share}, fixed, _search(settings), _rng(rows, settings, fold))


def _rules(reasons: Mapping[str, str]) -> list[str]:
    return [f"{case} goes to train: {reason}" for case, reason in sorted(reasons.items())]


def _search(settings: IndexParams) -> Search:
    return Search(settings.gap, settings.node_limit)


def _rng(rows: pd.DataFrame, settings: IndexParams, fold: int = 0) -> np.random.Generator:
    """A generator of its own for each source and fold, so that the presence of one source does not move another."""
    return np.random.default_rng([settings.seed, SOURCES.index(rows["source"].iloc[0]), fold])


_PROTOCOLS: dict[Protocol, Callable[[pd.DataFrame, IndexParams, Mapping[str, str]], _Parted]] = {
    "case": _by_case,
    "published": _published,
    "kfold": _kfold,
    "image": _image,
}
