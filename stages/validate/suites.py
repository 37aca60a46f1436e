"""What must hold: every rule of the gate, in the order in which it is checked.

    schema            the manifest's columns and their kinds
    manifest          every row that merge made: keys, repeats
    idc, breakhis     the rows of one source: counts (before quarantine), sets, names, sizes, colours
    validated, and validated_idc, validated_breakhis
                      the rows that go on: everything that later rooms take for granted

Severity says what a failure means. `critical` stops the pipeline. `warning` holds the rows it finds back, in the
quarantine, under the `reason` given in its meta; where two apply, the first one names the row. `info` is reported.
"""

from typing import Any

import great_expectations.expectations as gxe
from great_expectations.expectations.expectation import Expectation
from great_expectations.expectations.row_conditions import Column, RowConditionType

from stages.contracts.manifest import BENIGN_SUBTYPES, LABELS, MAGNIFICATIONS, MANIFEST, SOURCES, SUBTYPES
from stages.validate import published
from stages.validate.params import AtLeast

BREAKHIS_SIZES = [(700, 460), (700, 456)]
"""As published; 456 occurs in slide 14-12465. "99 % are 700x460" failed on a sample of real images."""
IDC_SIDES = list(range(1, 51))
"""Patches are 50x50; at the edge of a slide they are smaller, down to one pixel. (A list, not bounds: Great
Expectations looks up bounds row by row in Python, and lists in one go.)"""
FILE_NAME = {
    "idc": r"(?:^|/)\d+_idx5_x\d+_y\d+_class[01]\.png$",
    "breakhis": r"(?:^|/)SOB_[BM]_(?:A|F|PT|TA|DC|LC|MC|PC)-\d{2}-\d+[A-Z]{0,2}-(?:40|100|200|400)-\d{3}\.png$",
}
OTHER_LABEL = {
    "idc": r"/(?:0/[^/]*_class1|1/[^/]*_class0)\.png$",
    "breakhis": r"(?:/benign/.*/SOB_M_|/malignant/.*/SOB_B_)[^/]*$",
}
"""The folder says one label, the file name the other."""
MEANS = ("mean_r", "mean_g", "mean_b")
STDS = ("std_r", "std_g", "std_b")
DARK = 10
"""Red is the brightest channel of stained tissue: where even its mean is below this, there is no tissue to see."""
KIND = {"string": "str", "float": "float32", "bool": "bool"}
"""Arrow's names of kinds that pandas calls otherwise."""
IN_EVERY_ROW = ("image_id", "source", "archive_sha256", "member", "copies")
IN_SOUND_ROWS = (
    "case_id", "label", "width", "height", "mode", "bytes", "sha256", "pixel_sha256", "blank", "blur", "padded",
    "pixel_row", *MEANS, *STDS,
)  # fmt: skip
ONLY_OF = {"idc": ("x", "y"), "breakhis": ("slide_id", "subtype", "magnification")}
"""Columns that one source fills and the other must leave null: unknown is null, never a guess."""


def schema_suite() -> list[Expectation]:
    """Rules on the columns. They ask nothing of the rows and are held against none: each row would be hashed first."""
    return [
        must("The columns are those of the contract, in its order", gxe.ExpectTableColumnsToMatchOrderedList,
             column_list=MANIFEST.names),
        *(must(f"{field.name} holds {field.type}", gxe.ExpectColumnValuesToBeOfType,
               column=field.name, type_=KIND.get(str(field.type), str(field.type))) for field in MANIFEST),
    ]  # fmt: skip


def manifest_suite() -> list[Expectation]:
    """Rules on every row that merge made."""
    return [
        must("At least 1 image", gxe.ExpectTableRowCountToBeBetween, min_value=1),
        *(must(f"{name} is never null", gxe.ExpectColumnValuesToNotBeNull, column=name) for name in IN_EVERY_ROW),
        must("image_id is unique", gxe.ExpectColumnValuesToBeUnique, column="image_id"),
        must("source is idc or breakhis", gxe.ExpectColumnValuesToBeInSet, column="source", value_set=list(SOURCES)),
        must("Every image stands in its archive at least once", gxe.ExpectColumnMinToBeBetween,
             column="copies", min_value=1),
        hold_back("decode_error", "The image could be read and its name understood", gxe.ExpectColumnValuesToBeNull,
                  column="decode_error"),
        hold_back("duplicate_of", "No two files have the same bytes", gxe.ExpectColumnValuesToBeUnique,
                  column="sha256"),
        hold_back("duplicate_of", "No two images have the same pixels (else the first is kept; if their labels or "
                  "subtypes differ, none)", gxe.ExpectColumnValuesToBeUnique, column="pixel_sha256"),
    ]  # fmt: skip


def source_suite(source: str, counts: AtLeast | None, whole: bool, blank: float, blur: float) -> list[Expectation]:
    """Rules on the rows of one source.

    counts: the bounds, or None where the published counts must hold. whole: the source has as many images as were
    published, so that the published counts are worth reporting even where bounds would do. blank: highest share of
    background, 0-1. blur: a variance of the Laplacian at or below this is featureless.
    """
    columns = {"idc": idc_rules, "breakhis": breakhis_rules}[source]()
    return [*count_rules(source, counts, whole), *columns, *image_rules(source, blank, blur)]


def count_rules(source: str, counts: AtLeast | None, whole: bool) -> list[Expectation]:
    """Rules on how many images and cases a source brings, good or bad: checked before quarantine."""
    exact = {"idc": published_idc, "breakhis": published_breakhis}[source]
    if counts is None:
        return exact("critical")
    return [
        must(f"At least {counts.images:,} images ({counts.key}.images)", gxe.ExpectTableRowCountToBeBetween,
             min_value=counts.images),
        must(f"At least {counts.cases:,} cases ({counts.key}.cases)", gxe.ExpectColumnUniqueValueCountToBeBetween,
             column="case_id", min_value=counts.cases),
        *both_labels(),
        *(exact("info") if whole else []),
    ]  # fmt: skip


def idc_rules() -> list[Expectation]:
    """Rules on columns of IDC alone."""
    return [
        *nothing_of("breakhis"),
        *(hold_back("size", f"{side} is 1 to {IDC_SIDES[-1]} pixels", gxe.ExpectColumnValuesToBeInSet,
                    column=side, value_set=IDC_SIDES) for side in ("width", "height")),
    ]  # fmt: skip


def breakhis_rules() -> list[Expectation]:
    """Rules on columns of BreakHis alone."""
    pairs = [(subtype, int(subtype not in BENIGN_SUBTYPES)) for subtype in SUBTYPES]
    return [
        *nothing_of("idc"),
        must("All images of a case have one label", gxe.ExpectColumnValuesToBeInSet,
             column="labels_of_case", value_set=[1]),
        hold_back("subtype", "subtype is one of the eight", gxe.ExpectColumnValuesToBeInSet,
                  column="subtype", value_set=list(SUBTYPES)),
        hold_back("subtype", "label agrees with subtype", gxe.ExpectColumnPairValuesToBeInSet,
                  column_A="subtype", column_B="label", value_pairs_set=pairs),
        hold_back("magnification", "magnification is 40, 100, 200 or 400", gxe.ExpectColumnValuesToBeInSet,
                  column="magnification", value_set=list(MAGNIFICATIONS)),
        hold_back("size", "The image is 700x460 or 700x456", gxe.ExpectColumnPairValuesToBeInSet,
                  column_A="width", column_B="height", value_pairs_set=BREAKHIS_SIZES),
    ]  # fmt: skip


def image_rules(source: str, blank: float, blur: float) -> list[Expectation]:
    """Rules on names and images that both sources share."""
    return [
        hold_back("label", "label is 0 (benign) or 1 (malignant)", gxe.ExpectColumnValuesToBeInSet,
                  column="label", value_set=[0, 1]),
        hold_back("name", "The file name follows the publisher's grammar", gxe.ExpectColumnValuesToMatchRegex,
                  column="member", regex=FILE_NAME[source]),
        hold_back("folder", "Folder and file name say the same label", gxe.ExpectColumnValuesToNotMatchRegex,
                  column="member", regex=OTHER_LABEL[source]),
        hold_back("mode", "The image is 8-bit RGB, without alpha", gxe.ExpectColumnValuesToBeInSet,
                  column="mode", value_set=["RGB"]),
        hold_back("blank", f"At most {blank:.0%} of the image is background", gxe.ExpectColumnValuesToBeBetween,
                  column="blank", max_value=blank),
        hold_back("blur", "The image is not featureless", gxe.ExpectColumnValuesToBeBetween,
                  column="blur", min_value=blur, strict_min=True),
        hold_back("colour", f"The image is not black: mean_r is at least {DARK}", gxe.ExpectColumnValuesToBeBetween,
                  column="mean_r", min_value=DARK),
        *(note(f"On average {name} is that of stained tissue", gxe.ExpectColumnMeanToBeBetween,
               column=name, min_value=80, max_value=245) for name in MEANS),
        *(note(f"On average {name} is that of stained tissue", gxe.ExpectColumnMeanToBeBetween,
               column=name, min_value=10, max_value=80) for name in STDS),
    ]  # fmt: skip


def validated_suite() -> list[Expectation]:
    """Rules on all rows that go on, of both sources together."""
    return [
        *(must(f"{name} is never null", gxe.ExpectColumnValuesToNotBeNull, column=name) for name in IN_SOUND_ROWS),
        must("No image has a decode_error", gxe.ExpectColumnValuesToBeNull, column="decode_error"),
        *(must(f"{name} is unique", gxe.ExpectColumnValuesToBeUnique, column=name)
          for name in ("image_id", "sha256", "pixel_sha256")),
        must("label is 0 or 1", gxe.ExpectColumnValuesToBeInSet, column="label", value_set=[0, 1]),
        must("All images of a BreakHis case have one label", gxe.ExpectColumnValuesToBeInSet,
             column="labels_of_case", value_set=[1]),
    ]  # fmt: skip


def remaining_suite(source: str, cases: int) -> list[Expectation]:
    """Rules on what is left of one source: enough to learn from and to split."""
    return [
        *both_labels(),
        must(f"At least {cases:,} cases", gxe.ExpectColumnUniqueValueCountToBeBetween,
             column="case_id", min_value=cases),
        *(must(f"{name} is never null in {source}", gxe.ExpectColumnValuesToNotBeNull, column=name)
          for name in ONLY_OF[source]),
    ]  # fmt: skip


def published_idc(severity: str) -> list[Expectation]:
    """The published counts of IDC, exactly."""
    return [
        images(sum(published.IDC_IMAGES.values()), "images", None, severity),
        *(images(number, f"{LABELS[label]} images", Column("label") == label, severity)
          for label, number in published.IDC_IMAGES.items()),
        distinct(published.IDC_CASES, "case_id", "cases", None, severity),
    ]  # fmt: skip


def published_breakhis(severity: str) -> list[Expectation]:
    """The published counts of BreakHis, exactly: by label, magnification, subtype, and subtype at magnification."""
    label, power, subtype = Column("label"), Column("magnification"), Column("subtype")
    rules = [
        images(sum(published.BREAKHIS_IMAGES.values()), "images", None, severity),
        *(images(number, f"{LABELS[value]} images", label == value, severity)
          for value, number in published.BREAKHIS_IMAGES.items()),
        *(images(number, f"images at {value}X", power == value, severity)
          for value, number in published.BREAKHIS_MAGNIFICATIONS.items()),
        distinct(published.BREAKHIS_CASES, "case_id", "accession numbers", None, severity),
        distinct(published.BREAKHIS_SLIDE_IDS, "slide_id", "slide ids", None, severity),
    ]  # fmt: skip
    for name, counts in published.BREAKHIS_SUBTYPES.items():
        within = subtype == name
        rules += [
            images(counts.images, f"images of {name}", within, severity),
            *(images(number, f"images of {name} at {value}X", within & (power == value), severity)
              for value, number in counts.magnification.items()),
            distinct(counts.slides, "slide_id", f"slide folders of {name}", within, severity),
            distinct(counts.cases, "case_id", f"accession numbers of {name}", within, severity),
        ]  # fmt: skip
    return rules


def both_labels() -> list[Expectation]:
    """At least one benign and one malignant image: with one label alone there is nothing to learn."""
    return [must(f"At least 1 {name} image", gxe.ExpectTableRowCountToBeBetween,
                 min_value=1, row_condition=Column("label") == label) for label, name in enumerate(LABELS)]  # fmt: skip


def nothing_of(other: str) -> list[Expectation]:
    """The columns of the other source are null."""
    return [must(f"{name} is null: only {other} has it", gxe.ExpectColumnValuesToBeNull, column=name)
            for name in ONLY_OF[other]]  # fmt: skip


def images(number: int, what: str, where: RowConditionType, severity: str) -> Expectation:
    """Exactly `number` rows, as published."""
    return gxe.ExpectTableRowCountToEqual(
        description=f"Exactly {number:,} {what}, as published",
        value=number, row_condition=where, severity=severity, meta={"published": True},
    )  # fmt: skip


def distinct(number: int, column: str, what: str, where: RowConditionType, severity: str) -> Expectation:
    """Exactly `number` different values of a column, as published."""
    return gxe.ExpectColumnUniqueValueCountToBeBetween(
        description=f"Exactly {number:,} {what}, as published",
        column=column, min_value=number, max_value=number, row_condition=where,
        severity=severity, meta={"published": True},
    )  # fmt: skip


def must(says: str, kind: type[Expectation], **rule: Any) -> Expectation:
    """A rule whose failure stops the pipeline."""
    return kind(description=says, severity="critical", **rule)


def hold_back(reason: str, says: str, kind: type[Expectation], **rule: Any) -> Expectation:
    """A rule that sends the rows that break it to the quarantine."""
    return kind(description=says, severity="warning", meta={"reason": reason}, **rule)


def note(says: str, kind: type[Expectation], **rule: Any) -> Expectation:
    """A rule that is reported only."""
    return kind(description=says, severity="info", **rule)
