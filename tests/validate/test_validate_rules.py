"""What the gate finds: every reason for which it holds rows back, every fault at which it stops."""

import pandas as pd
import pytest
from drawn_manifest import breakhis_row, breakhis_rows, frame_of, idc_rows, sources, whole_idc_rows

from stages.validate.examine import Examination, examine
from stages.validate.gate import Gate
from stages.validate.params import AtLeast, ValidateParams
from stages.validate.suites import manifest_suite, remaining_suite, source_suite, validated_suite

LIMITS = ValidateParams(blank_share=0.99, blur_variance=0.0)
FEW = {name: AtLeast(images=4, cases=3, key=f"profiles.local.validate.{name}") for name in ("idc", "breakhis")}
EXACT = {"idc": None, "breakhis": None}


def examined(rows: list[dict], kind: str = "given", absent: tuple[str, ...] = (), bounds: dict = FEW) -> Examination:
    return examine(Gate(), frame_of(rows), sources(kind, absent), LIMITS, bounds)


def reasons(found: Examination) -> dict[str, str]:
    assert not found.stopped, broken(found)
    return dict(zip(found.quarantined["image_id"], found.quarantined["reason"], strict=True))


def broken(found: Examination) -> list[tuple[str, str]]:
    return [(outcome.suite, str(outcome.rule.description)) for outcome in found.outcomes if outcome.stops]


def test_a_sound_manifest_goes_on_whole() -> None:
    found = examined(idc_rows() + breakhis_rows())
    assert reasons(found) == {}
    assert len(found.validated) == 24 + 32


SPOILED_IDC = {
    "mode: RGBA": {"mode": "RGBA"},
    "blank: 0.995": {"blank": 0.995},
    "blur: 0": {"blur": 0.0},
    "colour: mean_r=3": {"mean_r": 3.0},
    "size: width=51": {"width": 51},
    "size: height=0": {"height": 0},
    "label: 2": {"label": 2},
    "decode_error: unreadable: truncated": {"decode_error": "unreadable: truncated"},
    "name: member=8863/0/patch.png": {"member": "8863/0/patch.png"},
    "folder: member=8863/1/8863_idx5_x1_y1_class0.png": {"member": "8863/1/8863_idx5_x1_y1_class0.png"},
}
SPOILED_BREAKHIS = {
    "mode: L": {"mode": "L"},
    "size: width=640 height=460": {"width": 640},
    "subtype: X": {"subtype": "X"},
    "subtype: subtype=DC label=0": {"subtype": "DC"},
    "magnification: 50": {"magnification": 50},
    "name: member=SOB_1.png": {"member": "SOB_1.png"},
}


def test_each_fault_of_a_row_holds_it_back_under_its_own_reason() -> None:
    idc, breakhis = idc_rows(patches=12), breakhis_rows(cases=16)
    expected = {}
    for rows, faults in ((idc[1:], SPOILED_IDC), (breakhis, SPOILED_BREAKHIS)):
        for row, (reason, fault) in zip(rows, faults.items(), strict=False):
            row.update(fault)
            expected[row["image_id"]] = reason
    assert reasons(examined(idc + breakhis)) == expected


def test_an_image_of_700x456_is_sound() -> None:
    rows = breakhis_rows()
    rows[0]["height"] = 456
    assert reasons(examined(idc_rows() + rows)) == {}


def test_an_edge_patch_of_one_pixel_is_sound() -> None:
    rows = idc_rows()
    rows[0] |= {"width": 1, "height": 1, "padded": True}
    assert reasons(examined(rows + breakhis_rows())) == {}


def test_of_equal_images_the_first_is_kept() -> None:
    rows = idc_rows()
    for row in rows[:2]:
        row["pixel_sha256"] = "equal"
    assert reasons(examined(rows + breakhis_rows())) == {rows[1]["image_id"]: f"duplicate_of: {rows[0]['image_id']}"}


def test_equal_images_of_two_labels_are_all_held_back() -> None:
    rows = idc_rows()
    for row in rows[:3]:  # labels 0, 0, 1
        row["pixel_sha256"] = "equal"
    ids = [row["image_id"] for row in rows[:3]]
    held = reasons(examined(rows + breakhis_rows()))
    assert set(held) == set(ids)
    assert sorted(held[ids[2]].removeprefix("label_conflict: ").split()) == sorted(ids[:2])


def test_equal_images_of_one_label_and_two_subtypes_are_all_held_back() -> None:
    twins = [breakhis_row(f"SOB_M_{subtype}-14-13412-100-003.png") for subtype in ("DC", "LC")]
    for twin in twins:
        twin["pixel_sha256"] = "equal"
    one, other = (twin["image_id"] for twin in twins)
    held = reasons(examined(idc_rows() + breakhis_rows() + twins))
    assert held == {one: f"label_conflict: {other}", other: f"label_conflict: {one}"}


def test_a_row_held_back_for_itself_does_not_displace_its_equal() -> None:
    rows = idc_rows()
    for row in rows[:2]:
        row["pixel_sha256"] = "equal"
    rows[0]["member"] = "8863/0/patch.png"
    assert set(reasons(examined(rows + breakhis_rows()))) == {rows[0]["image_id"]}


def without(rows: list[dict], label: int) -> list[dict]:
    return [row for row in rows if row["label"] != label]


STOPPED = {
    "no malignant patch": (without(idc_rows(8), 1) + breakhis_rows(), ("idc", "At least 1 malignant image")),
    "no benign image": (idc_rows() + without(breakhis_rows(16), 0), ("breakhis", "At least 1 benign image")),
    "one case": (
        idc_rows(cases=1) + breakhis_rows(),
        ("idc", "At least 3 cases (profiles.local.validate.idc.cases)"),
    ),
    "too few images": (
        idc_rows(cases=1, patches=3) + breakhis_rows(),
        ("idc", "At least 4 images (profiles.local.validate.idc.images)"),
    ),
    "an image twice": (idc_rows() + idc_rows() + breakhis_rows(), ("manifest", "image_id is unique")),
    "an unknown source": (
        [*idc_rows(), *breakhis_rows(), idc_rows(1, 1, 99)[0] | {"source": "camelyon"}],
        ("manifest", "source is idc or breakhis"),
    ),
    "an archive without a hash": (
        [row | {"archive_sha256": None} for row in idc_rows()] + breakhis_rows(),
        ("manifest", "archive_sha256 is never null"),
    ),
    "a patch with a subtype": (
        [row | {"subtype": "DC"} for row in idc_rows()] + breakhis_rows(),
        ("idc", "subtype is null: only breakhis has it"),
    ),
    "a case with two labels": (
        [row | ({"case_id": "breakhis-14-1"} if row["magnification"] == 40 else {}) for row in breakhis_rows()]
        + idc_rows(),
        ("breakhis", "All images of a case have one label"),
    ),
}


@pytest.mark.parametrize("fault", STOPPED)
def test_a_critical_fault_stops_and_is_named(fault: str) -> None:
    rows, rule = STOPPED[fault]
    found = examined(rows)
    assert found.stopped
    assert rule in broken(found)
    assert found.validated is None


def test_a_source_that_quarantine_empties_stops_the_pipeline() -> None:
    unreadable = [row | {"decode_error": "unreadable", "pixel_sha256": None} for row in idc_rows()]
    found = examined(unreadable + breakhis_rows())
    assert ("validated_idc", "At least 1 benign image") in broken(found)
    assert found.report()["rows"]["reasons"] == {"decode_error": 24}


def test_a_missing_column_stops_with_its_name() -> None:
    frame = frame_of(idc_rows() + breakhis_rows()).drop(columns="blur")
    found = examine(Gate(), frame, sources(), LIMITS, FEW)
    assert ("schema", "The columns are those of the contract, in its order") in broken(found)


def test_a_column_of_another_kind_stops() -> None:
    frame = frame_of(idc_rows() + breakhis_rows()).astype({"label": "float64"})
    assert ("schema", "label holds int8") in broken(examine(Gate(), frame, sources(), LIMITS, FEW))


def test_an_absent_source_is_not_asked_for() -> None:
    found = examined(idc_rows(), absent=("breakhis",))
    assert reasons(found) == {}
    assert {outcome.suite for outcome in found.outcomes} == {"schema", "manifest", "idc", "validated", "validated_idc"}


def test_no_source_at_all_stops_the_pipeline() -> None:
    nothing = frame_of(idc_rows()).iloc[:0]
    found = examine(Gate(), nothing, sources(absent=("breakhis", "idc")), LIMITS, FEW)
    assert ("manifest", "At least 1 image") in broken(found)


def test_drawn_data_are_marked_demo_and_a_part_of_the_real_sets_a_real_sample() -> None:
    rows = idc_rows() + breakhis_rows()
    assert examined(rows, kind="drawn").data == "demo"
    assert examined(rows, kind="given").data == "real sample"


@pytest.mark.parametrize(
    "rules",
    [
        manifest_suite(),
        *(source_suite(source, bounds, True, 0.99, 0.0) for source in FEW for bounds in (None, FEW[source])),
        validated_suite(),
        *(remaining_suite(source, 3) for source in FEW),
    ],
)
def test_rules_of_a_suite_are_told_apart_by_their_descriptions(rules: list) -> None:
    said = [rule.description for rule in rules]
    assert len(set(said)) == len(said)


@pytest.fixture(scope="module")
def published_rows(real_data) -> list[dict]:
    lines = (real_data / "names" / "dsfold1.txt").read_text().split()
    return [breakhis_row(name) for name in sorted({line.split("|")[0] for line in lines})]


@pytest.mark.real
def test_the_official_names_of_breakhis_hold_every_published_count(published_rows: list[dict]) -> None:
    found = examined(published_rows, kind="published", absent=("idc",), bounds=EXACT)
    assert reasons(found) == {}
    assert sum(outcome.rule.meta == {"published": True} for outcome in found.outcomes) == 65


@pytest.mark.real
def test_one_image_of_another_subtype_breaks_the_published_counts(published_rows: list[dict]) -> None:
    name = published_rows[0]["image_id"].removeprefix("breakhis-").replace("SOB_B_A", "SOB_B_F") + ".png"
    found = examined([breakhis_row(name), *published_rows[1:]], absent=("idc",), bounds=EXACT)
    assert ("breakhis", "Exactly 444 images of A, as published") in broken(found)
    assert ("breakhis", "Exactly 7,909 images, as published") not in broken(found)


@pytest.mark.real
@pytest.mark.slow
def test_only_both_whole_sets_are_marked_full(published_rows: list[dict]) -> None:
    assert examined(whole_idc_rows() + published_rows).data == "full"
    assert examined(idc_rows() + published_rows).data == "real sample"


def test_the_report_names_images_and_counts_rows() -> None:
    rows = idc_rows()
    rows[0]["mode"] = "L"
    report = examined(rows + breakhis_rows()).report()
    assert report["rows"] == {"in": 56, "validated": 55, "quarantined": 1, "reasons": {"mode": 1}}
    said = [one for one in report["expectations"] if one["images"]]
    assert [(one["suite"], one["images"], one["unexpected"]) for one in said] == [("idc", [rows[0]["image_id"]], 1)]


def test_the_tables_types_are_those_that_parquet_gives_back() -> None:
    frame = frame_of(idc_rows() + breakhis_rows())
    assert str(frame["label"].dtype) == "Int8"
    assert isinstance(frame["member"].dtype, pd.StringDtype)
