"""PSI, KS and the limits that chance sets."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp

from stages.evaluate.outlook import MOST_OF_A_CASE, thinned
from stages.evaluate.shift import Feature, Limits, Population, chance_limits, psi, shifts


def limits(**changed: float) -> Limits:
    return Limits(**{"psi": 0.25, "ks": 0.15, "false_alarm": 0.05, "bins": 10, "resamples": 200, "seed": 1} | changed)


def clustered(cases: int, rng: np.random.Generator, images: int = 30) -> tuple[pd.DataFrame, pd.Series]:
    """Images of a case resemble one another."""
    case = np.repeat(np.arange(cases), images)
    return pd.DataFrame({"colour": rng.normal(0, 1, cases)[case] + rng.normal(0, 0.5, len(case))}), pd.Series(case)


def test_equal_counts_have_no_psi_and_it_grows_with_the_shift() -> None:
    assert psi(np.array([100, 100]), np.array([100, 100])) == 0
    assert psi(np.array([50, 150]), np.array([100, 100])) == pytest.approx(0.5 * np.log(3) / 2, rel=0.02)
    assert psi(np.array([0, 200]), np.array([100, 100])) > psi(np.array([50, 150]), np.array([100, 100]))


def test_ks_of_a_batch_is_that_of_scipy_and_of_its_own_rows_close_to_it() -> None:
    rng = np.random.default_rng(0)
    reference = pd.Series(rng.normal(0, 1, 2000))
    feature = Feature("colour", reference, 10)
    batch = pd.Series(rng.normal(0.5, 1, 300))
    assert feature.statistics(batch)[1] == ks_2samp(batch, reference).statistic
    group, out = np.arange(200), np.arange(400)
    exact = ks_2samp(reference[group], reference[400:]).statistic
    assert exact - 1 / 128 <= feature.of_rows(group, out)[1] <= exact


def test_a_value_that_the_reference_never_had_counts() -> None:
    constant = Feature("size", pd.Series(["50x50"] * 500), 10)
    assert constant.statistics(pd.Series(["50x50"] * 100))[0] < 0.05
    assert constant.statistics(pd.Series(["100x50"] * 100))[0] > 1


def test_a_few_new_cases_of_the_same_kind_exceed_fixed_limits_but_not_those_of_chance() -> None:
    rng = np.random.default_rng(3)
    reference, case = clustered(100, rng)
    alarms = {"fixed": 0, "chance": 0}
    for _ in range(20):
        batch, _ = clustered(4, rng)
        found = shifts([Population(reference, case, batch)], np.full(4, 30), limits(psi=0.25, ks=0.15))
        alarms["fixed"] += any(one.value > {"psi": 0.25, "ks": 0.15}[one.kind] for one in found)
        alarms["chance"] += any(one.drifted for one in found)
    assert alarms["fixed"] >= 15
    assert alarms["chance"] <= 3


def test_many_cases_that_lie_apart_are_found() -> None:
    rng = np.random.default_rng(4)
    reference, case = clustered(100, rng)
    batch, _ = clustered(12, rng)
    found = shifts([Population(reference, case, batch + 3)], np.full(12, 30), limits())
    assert all(one.drifted for one in found)


def test_the_same_seed_gives_the_same_limits() -> None:
    rng = np.random.default_rng(5)
    reference, case = clustered(30, rng)
    batch, _ = clustered(5, rng)
    again = [shifts([Population(reference, case, batch)], np.full(5, 30), limits()) for _ in range(2)]
    assert again[0] == again[1]


def test_limits_of_many_statistics_are_exceeded_together_as_often_as_asked() -> None:
    drawn = np.random.default_rng(6).normal(0, 1, (4000, 20))
    edge = chance_limits(drawn[:2000], 0.05)
    assert (drawn[2000:] > edge).any(axis=1).mean() == pytest.approx(0.05, abs=0.02)


@given(st.lists(st.integers(1, 200), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_a_large_case_gives_as_many_rows_as_any_other(sizes: list[int]) -> None:
    rows = pd.DataFrame({"case_id": np.repeat(np.arange(len(sizes)), sizes)})
    kept = thinned(rows).groupby("case_id").size()
    assert kept.tolist() == [min(size, MOST_OF_A_CASE) for size in sizes]
