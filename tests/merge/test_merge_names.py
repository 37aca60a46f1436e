"""The two name grammars: what they read, and what they refuse to read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.contracts.manifest import SUBTYPES
from stages.merge import breakhis, idc


@given(st.integers(1, 99999), st.integers(0, 9999), st.integers(0, 9999), st.sampled_from([0, 1]))
def test_an_idc_name_gives_back_what_it_was_made_of(case: int, x: int, y: int, label: int) -> None:
    name = idc.parse(f"IDC_regular_ps50_idx5/{case}/{label}/{case}_idx5_x{x}_y{y}_class{label}.png")
    assert (name.case_id, name.x, name.y, name.label) == (f"idc-{case}", x, y, label)
    assert name.error is None
    assert name.image == f"{case}_idx5_x{x}_y{y}_class{label}"


@given(
    st.sampled_from(SUBTYPES),
    st.integers(10, 99),
    st.integers(1, 99999),
    st.text("ABCDEFG", max_size=2),
    st.sampled_from([40, 100, 200, 400]),
    st.integers(0, 999),
)
def test_a_breakhis_name_gives_back_what_it_was_made_of(
    subtype: str, year: int, number: int, letters: str, magnification: int, sequence: int
) -> None:
    side, tumour = ("benign", "B") if subtype in SUBTYPES[:4] else ("malignant", "M")
    slide = f"{year}-{number}{letters}"
    stem = f"SOB_{tumour}_{subtype}-{slide}-{magnification}-{sequence:03}"
    folder = f"{side}/SOB/{breakhis.SUBTYPE_FOLDERS[subtype]}/SOB_{tumour}_{subtype}_{slide}/{magnification}X"
    name = breakhis.parse(f"BreaKHis_v1/histology_slides/breast/{folder}/{stem}.png")
    assert name.error is None
    assert (name.image, name.slide_id, name.case_id) == (stem, slide, f"breakhis-{year}-{number}")
    assert (name.subtype, name.label, name.magnification) == (subtype, int(tumour == "M"), magnification)


@given(st.text())
def test_no_member_name_whatever_makes_a_grammar_fail(member: str) -> None:
    for parse in (idc.parse, breakhis.parse):
        name = parse(member)
        assert name.matched or name.error.startswith("name does not match")


@pytest.mark.parametrize(
    "file", ["8863_idx5_x1_y1_class2.png", "8863_idx4_x1_y1_class0.png", "٣_idx5_x1_y1_class0.png", "x.png\n"]
)
def test_what_only_resembles_an_idc_name_is_not_one(file: str) -> None:
    assert not idc.parse(f"8863/0/{file}").matched


@pytest.mark.parametrize(
    ("member", "said"),
    [
        ("8863/1/8863_idx5_x1_y1_class0.png", "lies in 8863/1/, its name says 8863/0/"),
        ("8864/0/8863_idx5_x1_y1_class0.png", "lies in 8864/0/, its name says 8863/0/"),
    ],
)
def test_an_idc_patch_in_a_folder_that_contradicts_its_name_is_an_error(member: str, said: str) -> None:
    assert said in idc.parse(member).error


@pytest.mark.parametrize(
    "member",
    [
        "malignant/SOB/adenosis/SOB_B_A_14-22549AB/100X/SOB_B_A-14-22549AB-100-001.png",
        "benign/SOB/fibroadenoma/SOB_B_A_14-22549AB/100X/SOB_B_A-14-22549AB-100-001.png",
        "benign/SOB/adenosis/SOB_B_A_14-22549CD/100X/SOB_B_A-14-22549AB-100-001.png",
        "benign/SOB/adenosis/SOB_B_A_14-22549AB/40X/SOB_B_A-14-22549AB-100-001.png",
    ],
)
def test_every_folder_above_a_breakhis_image_must_agree_with_its_name(member: str) -> None:
    assert "name and folder disagree" in breakhis.parse(member).error


def test_a_benign_name_with_a_malignant_subtype_contradicts_itself() -> None:
    assert "contradicts itself" in breakhis.parse("SOB_B_DC-14-1-40-001.png").error


def test_letter_suffix_siblings_are_one_case_on_two_slides() -> None:
    first, second = (breakhis.parse(f"SOB_B_A-14-22549{letters}-40-001.png") for letters in ("AB", "CD"))
    assert first.case_id == second.case_id == "breakhis-14-22549"
    assert first.slide_id != second.slide_id
