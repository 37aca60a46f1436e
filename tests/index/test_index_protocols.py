"""The four protocols on small cases: who is where, what leaks, and what is said of it."""

import pandas as pd
import pytest
from index_rows import SETTINGS, SOURCES, breakhis_image, completed, drawn_breakhis, drawn_idc, idc_cases

from stages.contracts.errors import StageError
from stages.contracts.index import assignment, shared_cases, write_index
from stages.index.protocols import Plan, plan
from stages.index.published import breakhis_folds, idc_parts
from stages.index.report import closing, metadata, split_report

VALIDATED = {"sources": SOURCES, "data": "demo"}


def published_rows() -> list[dict]:
    """Two images of every slide of the official folds, the letter-suffix siblings with them."""
    return [
        breakhis_image(slide.rstrip("ABCDEFGHIJ"), slide.lstrip("0123456789-"), subtype, 40, number)
        for slide, subtype in breakhis_folds()[["slide_id", "subtype"]].itertuples(index=False)
        for number in range(2)
    ]


def reported(protocol: str, planned: Plan) -> dict:
    about = metadata(protocol, planned.rows, SETTINGS, VALIDATED)
    return split_report(about, planned.rows, planned.findings, SETTINGS, None)


def test_no_case_is_in_two_parts_of_the_protocol_case() -> None:
    rows = completed(drawn_breakhis() + drawn_idc())
    planned = plan("case", rows, SETTINGS, {})
    assert shared_cases(planned.rows) == []
    assert sorted(planned.rows["image_id"]) == sorted(rows["image_id"])
    report = reported("case", planned)
    assert report["disjointness"] == "0 of 60 cases shared between parts"
    assert report["sources"]["idc"]["disjointness"] == "0 of 20 cases shared between parts"
    assert "0 of 60 cases shared between parts" in closing(report)


def test_the_counts_of_the_report_sum_to_the_rows() -> None:
    rows = completed(drawn_breakhis() + drawn_idc())
    for source, found in reported("case", plan("case", rows, SETTINGS, {}))["sources"].items():
        own = rows[rows["source"] == source]
        parts = found["counts"]["0"].values()
        assert sum(part["images"] for part in parts) == len(own)
        assert sum(part["cases"] for part in parts) == own["case_id"].nunique()
        for column in ["label"] + ["subtype", "magnification"] * (source == "breakhis"):
            assert sum(kind["images"] for part in parts for kind in part[column].values()) == len(own)


def test_the_large_phyllodes_case_goes_to_train_and_the_reason_is_reported() -> None:
    rows = completed(published_rows())
    for seed in range(3):
        planned = plan("case", rows, SETTINGS.model_copy(update={"seed": seed}), {})
        assert assignment(planned.rows)["breakhis-14-21998"] == "train"
    assert planned.findings["breakhis"]["rules"][0].startswith("breakhis-14-21998 goes to train: it holds 6.2 %")


def test_a_case_that_would_be_most_of_a_scored_part_goes_to_train_and_the_reason_is_reported() -> None:
    rows = completed(drawn_idc())
    giant = rows[rows["case_id"] == rows["case_id"].iloc[0]]
    copies = [giant.assign(image_id=giant["image_id"] + f"-{number}") for number in range(4)]
    rows = pd.concat([rows, *copies], ignore_index=True)
    for seed in range(3):
        planned = plan("case", rows, SETTINGS.model_copy(update={"seed": seed}), {})
        assert assignment(planned.rows)[giant["case_id"].iloc[0]] == "train"
    assert "over a third" in planned.findings["idc"]["rules"][0]


def test_a_source_of_three_large_cases_still_has_all_three_parts() -> None:
    rows = completed(drawn_idc())
    rows = rows[rows["case_id"].isin(sorted(rows["case_id"].unique())[:3])]
    assert set(plan("case", rows, SETTINGS, {}).rows["split"]) == {"train", "val", "test"}


def test_frozen_cases_keep_their_part_and_win_over_the_rule() -> None:
    rows = completed(published_rows())
    before = assignment(plan("case", rows, SETTINGS, {}).rows)
    kept = dict(list(before.items())[:40]) | {"breakhis-14-21998": "test"}
    planned = plan("case", rows, SETTINGS.model_copy(update={"seed": 99}), kept)
    assert kept.items() <= assignment(planned.rows).items()
    assert planned.findings["breakhis"]["rules"] == []
    assert planned.findings["breakhis"]["frozen_cases"] == len(kept)


def test_the_presence_of_one_source_does_not_move_the_other() -> None:
    alone = plan("case", completed(drawn_idc()), SETTINGS, {})
    both = plan("case", completed(drawn_breakhis() + drawn_idc()), SETTINGS, {})
    assert assignment(alone.rows).items() <= assignment(both.rows).items()
    assert reported("case", alone)["sources"]["breakhis"] == {"left_out": "no validated image"}


def test_each_case_is_tested_in_exactly_one_fold() -> None:
    rows = completed(drawn_idc(30))
    planned = plan("kfold", rows, SETTINGS.model_copy(update={"node_limit": 100}), {})
    assert shared_cases(planned.rows) == []
    assert planned.rows.groupby("fold").size().to_dict() == dict.fromkeys(range(1, 6), len(rows))
    tested = planned.rows[planned.rows["split"] == "test"].groupby("case_id")["fold"].nunique()
    assert len(tested) == 30
    assert (tested == 1).all()
    shares = planned.rows.groupby("fold")["split"].value_counts(normalize=True).unstack()
    assert (abs(shares["test"] - 0.2) < 0.03).all()
    assert (abs(shares["val"] - 0.15) < 0.03).all()


def test_a_split_by_image_shares_cases_and_says_so() -> None:
    rows = completed(drawn_breakhis() + drawn_idc())
    planned = plan("image", rows, SETTINGS, {})
    report = reported("image", planned)
    assert report["leaks"]
    assert report["policy"].startswith("LEAKS by construction")
    shared = len(shared_cases(planned.rows))
    assert shared > 30
    assert report["disjointness"] == f"{shared} of 60 cases shared between parts: leaks by construction"
    shares = planned.rows.groupby("source")["split"].value_counts(normalize=True).unstack()
    assert (abs(shares - pd.Series({"train": 0.7, "val": 0.15, "test": 0.15})) < 0.02).to_numpy().all()
    again = plan("image", rows.sample(frac=1, random_state=1), SETTINGS, {})
    key = ["image_id", "split"]
    pd.testing.assert_frame_equal(*(one.rows[key].sort_values(key).reset_index(drop=True) for one in (planned, again)))


def test_idc_plays_its_published_lists_and_the_rest_stays_out() -> None:
    listed = {case.removeprefix("idc-"): (2, 1) for case in idc_parts() if case not in ("idc-8915", "idc-9024")}
    rows = completed(idc_cases(listed | {"1": (2, 2), "2": (1, 0)}))
    planned = plan("published", rows, SETTINGS, {})
    found = reported("published", planned)["sources"]["idc"]
    assert found["listed_but_absent"] == {"train": ["idc-8915", "idc-9024"], "val": [], "test": []}
    assert found["in_no_list"] == {"images": 5, "cases": 2}
    for fold in "12345":
        assert [found["counts"][fold][part]["cases"] for part in ("train", "val", "test")] == [82, 29, 49]


def test_the_published_folds_of_breakhis_declare_their_leak(tmp_path) -> None:
    planned = plan("published", completed(published_rows()), SETTINGS, {})
    report = reported("published", planned)
    assert report["leaks"]
    assert "leak by accession number" in report["disjointness"]
    official = breakhis_folds().set_index(["slide_id", "subtype"])
    for fold, rows in planned.rows.groupby("fold"):
        key = pd.MultiIndex.from_frame(rows[["slide_id", "subtype"]])
        assert (official.loc[key, f"fold{fold}"].to_numpy() == rows["split"].replace("val", "train").to_numpy()).all()
        carved = rows[rows["split"] != "test"]
        assert shared_cases(carved) == []
        leak = report["sources"]["breakhis"]["leaks"][str(fold)]
        assert 0 < leak["of_cases_in_official_train"] < leak["test_images"]
    about = metadata("published", planned.rows, SETTINGS, VALIDATED)
    write_index(planned.rows, about, tmp_path / "published.parquet")
    with pytest.raises(StageError, match="0 may be"):
        write_index(planned.rows, about | {"shared_cases": {}}, tmp_path / "published.parquet")


def test_cases_that_the_publishers_never_named_are_refused() -> None:
    with pytest.raises(StageError, match="the publishers' lists name none of these cases"):
        plan("published", completed(drawn_idc()), SETTINGS, {})


def test_a_published_split_without_a_part_is_refused() -> None:
    with pytest.raises(StageError, match="no image of idc is in val or test of fold 1"):
        plan("published", completed(idc_cases({"8865": (2, 2), "8913": (1, 1)})), SETTINGS, {})
