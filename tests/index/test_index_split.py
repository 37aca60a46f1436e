"""The program and the cases that go into it: what holds for any sizes and labels."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_rows import breakhis_image, completed, drawn_breakhis, drawn_idc, idc_cases

from stages.contracts.errors import StageError
from stages.contracts.manifest import SUBTYPES
from stages.index.cases import place, strata
from stages.index.split import Demand, Search, divide

RATIOS = {"train": 0.7, "val": 0.15, "test": 0.15}
SEARCH = Search(gap=0.001, node_limit=100)

quick = settings(max_examples=15, deadline=None, derandomize=True)
breakhis_sizes = st.lists(st.tuples(st.sampled_from(SUBTYPES), st.integers(1, 15)), min_size=3, max_size=24)
idc_sizes = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda counts: sum(counts) > 0), min_size=3, max_size=24
)


def placed(rows: pd.DataFrame, fixed: dict[str, str] | None = None, seed: int = 0) -> pd.Series:
    return place(rows, RATIOS, fixed or {}, SEARCH, np.random.default_rng(seed)).parts


def breakhis(sizes: list[tuple[str, int]]) -> pd.DataFrame:
    return completed(
        [
            breakhis_image(f"14-{case}", "", subtype, 40, number)
            for case, (subtype, count) in enumerate(sizes)
            for number in range(count)
        ]
    )


@quick
@given(breakhis_sizes)
def test_every_subtype_with_three_cases_is_in_all_parts(sizes: list[tuple[str, int]]) -> None:
    rows = breakhis(sizes)
    placing = place(rows, RATIOS, {}, SEARCH, np.random.default_rng(0))
    assert placing.findings["lowered"] == []
    for subtype, own in rows.groupby("subtype"):
        parts = placing.parts[own["case_id"].unique()]
        assert parts.nunique() == 3 or len(parts) < 3, subtype


@quick
@given(idc_sizes)
def test_each_case_has_one_part_and_every_label_with_three_cases_is_in_all(sizes: list[tuple[int, int]]) -> None:
    rows = completed(idc_cases({str(case): counts for case, counts in enumerate(sizes)}))
    parts = placed(rows)
    assert parts.index.tolist() == sorted(set(rows["case_id"]))
    assert set(parts) == set(RATIOS)
    for _, own in rows.groupby("label"):
        assert parts[own["case_id"].unique()].nunique() == 3 or own["case_id"].nunique() < 3


@quick
@given(idc_sizes, st.integers(0, 99))
def test_the_split_depends_on_the_rows_and_not_on_their_order(sizes: list[tuple[int, int]], seed: int) -> None:
    rows = completed(idc_cases({str(case): counts for case, counts in enumerate(sizes)}))
    assert placed(rows).equals(placed(rows.sample(frac=1, random_state=seed)))


@quick
@given(breakhis_sizes, st.lists(st.sampled_from(list(RATIOS)), max_size=24))
def test_fixed_cases_keep_their_part_whatever_it_costs(sizes: list[tuple[str, int]], kept: list[str]) -> None:
    fixed = {f"breakhis-14-{case}": part for case, part in enumerate(kept[: len(sizes)])}
    parts = placed(breakhis(sizes), fixed | {"breakhis-99-1": "test"})
    assert {case: parts[case] for case in fixed} == fixed


def test_the_seed_alone_moves_a_split_among_equal_cases() -> None:
    rows = completed(idc_cases({str(case): (10, 10) for case in range(20)}))
    splits = [tuple(placed(rows, seed=seed)) for seed in (0, 0, 1, 2)]
    assert splits[0] == splits[1]
    assert len(set(splits)) == 3
    assert all(pd.Series(split).value_counts().to_dict() == {"train": 14, "val": 3, "test": 3} for split in splits)


def test_a_stratum_with_two_cases_is_named_as_not_in_all_parts() -> None:
    rows = breakhis([("DC", 10)] * 10 + [("A", 5)] * 2)
    findings = place(rows, RATIOS, {}, SEARCH, np.random.default_rng(0)).findings
    assert [(one["stratum"], one["cases"]) for one in findings["not_in_all_parts"]] == [("subtype A", 2)]


def test_val_and_test_get_four_of_sixteen_benign_cases_each() -> None:
    # One large benign case would fill val and test alike: without the demand they get one case each.
    rows = breakhis([("F", 60), ("F", 60)] + [("F", 2)] * 14 + [("DC", 10)] * 30)
    parts = placed(rows)
    benign = parts[rows.loc[rows["label"] == 0, "case_id"].unique()]
    assert (benign == "val").sum() >= 4
    assert (benign == "test").sum() >= 4


def test_a_scored_part_is_not_filled_with_a_few_large_cases() -> None:
    rows = completed(idc_cases({str(case): (150, 150) if case < 2 else (14, 14) for case in range(40)}))
    counts = placed(rows, {"idc-0": "val", "idc-1": "test"}).value_counts()
    assert counts["val"] >= 4
    assert counts["test"] >= 4


def test_demands_that_contradict_what_is_fixed_are_lowered_and_named() -> None:
    rows = breakhis([("DC", 10)] * 9 + [("F", 5)] * 3)
    fixed = {f"breakhis-14-{case}": "train" for case in (9, 10, 11)}
    placing = place(rows, RATIOS, fixed, SEARCH, np.random.default_rng(0))
    assert placing.findings["lowered"] == [
        "cases of subtype F in val: wanted 1, possible 0",
        "cases of subtype F in test: wanted 1, possible 0",
    ]
    assert set(placing.parts) == set(RATIOS)


@pytest.mark.parametrize("cases", [1, 2])
def test_too_few_cases_are_refused_with_their_number(cases: int) -> None:
    with pytest.raises(StageError, match=rf"idc has {cases} cases, and 3 parts .* need at least 3"):
        placed(completed(drawn_idc(cases)))


def test_the_use_of_the_node_limit_is_reported() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 50, (24, 3))
    demands = [Demand("cases", np.ones(24, bool), part, 1) for part in range(5)]
    found = divide(counts, [0.2] * 5, demands, {}, search=Search(1e-9, 1), rng=rng)
    assert found.node_limit_reached
    assert found.gap > 1e-9
    assert set(found.part) == set(range(5))


def test_strata_are_subtypes_of_breakhis_and_labels_of_idc() -> None:
    rows = completed(drawn_breakhis(8) + drawn_idc(3))
    by_source = strata(rows).groupby(rows["source"]).unique()
    assert sorted(by_source["idc"]) == ["label benign", "label malignant"]
    assert sorted(by_source["breakhis"]) == sorted(f"subtype {subtype}" for subtype in SUBTYPES)
