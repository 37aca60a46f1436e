"""The split of the 7,909 real BreakHis names, and the vendored lists against the publisher's files."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from index_rows import NAMES, SETTINGS, real_breakhis

from stages.contracts.index import PARTS, assignment, shared_cases
from stages.index.protocols import plan
from stages.index.published import breakhis_folds, idc_parts

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not NAMES.is_dir(), reason="the publisher's fold lists are not here"),
]

PRINT_SPLIT = """
from index_rows import SETTINGS, real_breakhis
from stages.contracts.index import assignment
from stages.index.protocols import plan
print(assignment(plan("case", real_breakhis()[0], SETTINGS, {}).rows))
"""


@pytest.fixture(scope="module")
def names() -> tuple[pd.DataFrame, dict]:
    return real_breakhis()


@pytest.mark.parametrize("seed", [0, 20260101])
def test_the_real_names_part_70_15_15_with_every_subtype_that_can_in_all_parts(names, seed: int) -> None:
    rows = names[0]
    planned = plan("case", rows, SETTINGS.model_copy(update={"seed": seed}), {})
    assert len(rows) == len(planned.rows) == 7909
    assert shared_cases(planned.rows) == []
    shares = planned.rows["split"].value_counts(normalize=True)[list(PARTS)]
    assert np.abs(shares.to_numpy() - [0.70, 0.15, 0.15]).max() <= 0.005
    cases = planned.rows.groupby("subtype")["case_id"].nunique()
    parts = planned.rows.groupby("subtype")["split"].nunique()
    assert (parts[cases >= 3] == 3).all()
    search = planned.findings["breakhis"]["searches"]["0"]
    assert [one["stratum"] for one in search["not_in_all_parts"]] == ["subtype A"]
    assert not search["node_limit_reached"]
    benign = planned.rows[planned.rows["label"] == 0].groupby("split")["case_id"].nunique()
    assert benign["val"] >= 4
    assert benign["test"] >= 4
    assert assignment(planned.rows)["breakhis-14-21998"] == "train"


def test_the_split_is_the_same_with_one_thread_and_with_four() -> None:
    root = Path(__file__).parents[2]
    said = set()
    for threads in ("1", "4"):
        env = os.environ | {"PYTHONPATH": f"{root}:{Path(__file__).parent}", "OMP_NUM_THREADS": threads}
        said.add(subprocess.run([sys.executable, "-c", PRINT_SPLIT], env=env, capture_output=True, check=True).stdout)
    assert len(said) == 1


def test_the_vendored_folds_are_those_of_the_publisher(names) -> None:
    sides = names[1]
    assert all(len(side) == 1 for folds in sides.values() for side in folds)
    vendored = {(slide, subtype): [{side} for side in folds] for slide, subtype, *folds in breakhis_folds().to_numpy()}
    assert vendored == sides


def test_the_official_folds_leak_by_accession_number_as_measured(names) -> None:
    planned = plan("published", names[0], SETTINGS, {})
    leaks = [planned.findings["breakhis"]["leaks"][fold] for fold in "12345"]
    shares = [100 * leak["of_cases_in_official_train"] / leak["test_images"] for leak in leaks]
    assert [round(share, 1) for share in shares] == [39.4, 28.0, 27.0, 31.0, 32.4]
    assert [leak["test_images"] for leak in leaks] == [2904, 2403, 2577, 2698, 3083]


def test_the_lists_of_idc_hold_84_29_and_49_cases() -> None:
    assert pd.Series(idc_parts()).value_counts()[list(PARTS)].tolist() == [84, 29, 49]
