"""Every row goes on or is held back with a reason, whatever the rows are."""

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from stages.validate.quarantine import SHOWN, counted, duplicate_reasons, part

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["idc", "breakhis"]),
        st.sampled_from([0, 1]),
        st.sampled_from(["DC", "LC", None]),
        st.sampled_from(["p", "q", "r", None]),
    ),
    max_size=12,
)


def frame(rows: list[tuple]) -> pd.DataFrame:
    names = [f"{row[0]}-{number:02}" for number, row in enumerate(rows)]
    columns = ["source", "label", "subtype", "pixel_sha256"]
    return pd.DataFrame(rows, columns=columns, dtype=object).assign(image_id=names)


@given(ROWS, st.sets(st.integers(0, 11)))
def test_rows_in_are_rows_that_go_on_and_rows_held_back(rows: list[tuple], spoiled: set[int]) -> None:
    whole = frame(rows)
    own = pd.Series({row: "blank: 1" for row in spoiled if row < len(whole)}, dtype="str")
    equal = duplicate_reasons(whole[~whole.index.isin(own.index)])
    validated, quarantined = part(whole, pd.concat([own, equal]))
    assert sorted([*validated["image_id"], *quarantined["image_id"]]) == sorted(whole["image_id"])
    assert quarantined["reason"].str.len().gt(0).all()
    assert sum(counted(quarantined["reason"]).values()) == len(quarantined)


@given(ROWS)
def test_what_goes_on_holds_no_two_equal_images(rows: list[tuple]) -> None:
    whole = frame(rows)
    validated, _ = part(whole, duplicate_reasons(whole))
    assert not validated["pixel_sha256"].dropna().duplicated().any()


@given(ROWS)
def test_one_image_of_each_set_goes_on_unless_its_labels_or_subtypes_differ(rows: list[tuple]) -> None:
    whole = frame(rows)
    validated, _ = part(whole, duplicate_reasons(whole))
    for pixels, equals in whole.dropna(subset="pixel_sha256").groupby("pixel_sha256"):
        agreed = len(equals[["label", "subtype"]].drop_duplicates()) == 1
        left = validated[validated["pixel_sha256"] == pixels]
        assert list(left["image_id"]) == (sorted(equals["image_id"])[:1] if agreed else [])


def test_a_large_set_of_equals_is_named_in_short() -> None:
    reasons = duplicate_reasons(frame([("idc", number % 2, None, "p") for number in range(SHOWN + 4)]))
    assert reasons[0].endswith("and 3 more")
