"""The paired case bootstrap: properties that must hold of any counts."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from stages.compare.intervals import (
    Interval,
    balanced_over_present,
    compared,
    expanded_tail,
    hits,
    recalls,
    resampled,
    worst,
)


@st.composite
def decisions(draw: st.DrawFn) -> pd.DataFrame:
    """Images of 3 to 8 cases, of up to three classes, called rightly or not by two models."""
    rows = draw(
        st.lists(
            st.tuples(st.integers(0, 7), st.integers(0, 2), st.booleans(), st.booleans()), min_size=12, max_size=60
        )
    )
    frame = pd.DataFrame(rows, columns=["case", "target", "right_challenger", "right_champion"])
    return frame.assign(case_id=[f"case-{case}" for case in frame["case"]])


def judged(
    rows: pd.DataFrame, seed: int = 1, columns: tuple[str, ...] = ("right_challenger", "right_champion")
) -> Interval:
    cases = sorted(rows["case_id"].unique())
    found = hits(rows, cases, "target", columns)
    return compared(found, balanced_over_present, resampled(max(len(cases), 2), 300, seed)[:, : len(cases)], 0.95)


@given(decisions())
@settings(max_examples=40, deadline=None)
def test_a_model_against_itself_differs_by_exactly_nothing(rows: pd.DataFrame) -> None:
    if rows["case_id"].nunique() < 2:
        return
    found = judged(rows, columns=("right_challenger", "right_challenger"))
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)


@given(decisions(), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_order_of_the_rows_changes_nothing(rows: pd.DataFrame, seed: int) -> None:
    if rows["case_id"].nunique() < 2:
        return
    assert judged(rows) == judged(rows.sample(frac=1, random_state=seed))


@given(decisions(), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_the_interval_holds_its_value_and_a_seed_repeats_it(rows: pd.DataFrame, seed: int) -> None:
    if rows["case_id"].nunique() < 2:
        return
    found = judged(rows, seed)
    assert found.low <= found.value <= found.high
    assert found == judged(rows, seed)


@given(decisions())
@settings(max_examples=40, deadline=None)
def test_the_value_is_the_difference_of_balanced_accuracies(rows: pd.DataFrame) -> None:
    if rows["case_id"].nunique() < 2:
        return
    each = []
    for column in ("right_challenger", "right_champion"):
        called = np.where(rows[column], rows["target"], 9)
        shares = [(called == rows["target"])[rows["target"] == one].mean() for one in rows["target"].unique()]
        each.append(np.mean(shares))
    assert judged(rows).value == pytest.approx(each[0] - each[1])


def test_two_classes_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    target, called = rng.integers(0, 2, 200), rng.integers(0, 2, 200)
    rows = pd.DataFrame({"case_id": np.arange(200) // 10, "target": target, "right": called == target})
    found = hits(rows, list(range(20)), "target", ["right"])
    value = balanced_over_present(recalls(np.ones((1, 20)), found.images, found.right[0]))
    assert value[0] == pytest.approx(balanced_accuracy_score(target, called))


def test_a_weight_is_a_case_drawn_again() -> None:
    rows = pd.DataFrame({"case_id": list("aabbb"), "target": [0, 1, 0, 1, 1], "right": [1, 0, 1, 1, 0]})
    found = hits(rows, ["a", "b"], "target", ["right"])
    twice = pd.concat([rows[rows["case_id"] == "b"]] * 2)
    again = hits(twice, ["a", "b"], "target", ["right"])
    one = recalls(np.array([[0.0, 2.0]]), found.images, found.right[0])
    assert one.tolist() == recalls(np.ones((1, 2)), again.images, again.right[0]).tolist()


def test_a_group_that_a_resample_lacks_is_left_out_of_it() -> None:
    found = np.array([[0.5, np.nan, 0.9], [np.nan, np.nan, np.nan]])
    assert balanced_over_present(found)[0] == pytest.approx(0.7)
    assert worst(found)[0] == 0.5
    assert np.isnan(balanced_over_present(found)[1])
    assert np.isnan(worst(found)[1])


def test_few_cases_are_given_a_wider_interval_and_many_the_plain_one() -> None:
    tails = [expanded_tail(0.95, cases) for cases in (2, 6, 11, 42, 10_000)]
    assert tails == sorted(tails)
    assert tails[1] < 0.005
    assert tails[-1] == pytest.approx(0.025, abs=1e-4)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """Eight cases of unequal skill, nominally 95 %."""
    rng = np.random.default_rng(7)
    covered = 0
    for trial in range(300):
        skill = rng.normal(0, 0.1, 8)
        rows = pd.DataFrame({"case_id": np.repeat([f"case-{one}" for one in range(8)], 60), "target": 0})
        rows["right_challenger"] = rng.random(480) < 0.8 + np.repeat(skill, 60)
        rows["right_champion"] = rng.random(480) < 0.8
        found = judged(rows, trial)
        covered += found.low <= 0 <= found.high
    assert covered / 300 >= 0.9
