"""Validated rows for the tests of index: real names where they are, else small cases of the same shape."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from stages.contracts.manifest import BENIGN_SUBTYPES, MANIFEST, SUBTYPES, write_manifest
from stages.index.params import IndexParams

NAMES = Path(__file__).parents[2].parent / "shared/data/names"
BREAKHIS = re.compile(r"^SOB_[BM]_([A-Z]+)-(\d{2}-\d+)([A-Z]{0,2})-(\d+)-(\d{3})\.png$")

SETTINGS = IndexParams(
    parts={"train": 0.7, "val": 0.15, "test": 0.15}, gap=0.001, node_limit=2000, folds=5, seed=7, frozen=None
)
SOURCES = {
    source: {"source": source, "kind": "drawn", "present": True, "sha256": "0" * 64, "reason": None}
    for source in ("breakhis", "idc")
}


def completed(rows: list[dict]) -> pd.DataFrame:
    """Rows with every column of the manifest."""
    frame = pd.DataFrame(rows).reindex(columns=MANIFEST.names)
    return frame.astype({"label": "Int8", "magnification": "Int16"})


def breakhis_image(slide: str, letters: str, subtype: str, magnification: int, number: int) -> dict:
    return {
        "image_id": f"breakhis-{subtype}-{slide}{letters}-{magnification}-{number:03}",
        "case_id": f"breakhis-{slide}",
        "source": "breakhis",
        "slide_id": f"{slide}{letters}",
        "label": int(subtype not in BENIGN_SUBTYPES),
        "subtype": subtype,
        "magnification": magnification,
    }


def idc_cases(images: Mapping[str, tuple[int, int]]) -> list[dict]:
    """images: case number -> how many images of class 0 and of class 1."""
    return [
        {"image_id": f"idc-{case}_{label}_{number}", "case_id": f"idc-{case}", "source": "idc", "label": label}
        for case, counts in images.items()
        for label, count in enumerate(counts)
        for number in range(count)
    ]


def drawn_idc(cases: int = 20, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    return idc_cases({str(100 + case): tuple(rng.integers(1, 12, 2)) for case in range(cases)})


def drawn_breakhis(cases: int = 40) -> list[dict]:
    """Cases over all subtypes in turn, two magnifications, three images each."""
    return [
        breakhis_image(f"14-{1000 + case}", "AB", SUBTYPES[case % 8], magnification, number)
        for case in range(cases)
        for magnification in (40, 100)
        for number in range(3)
    ]


def real_breakhis() -> tuple[pd.DataFrame, dict[tuple[str, str], list[set[str]]]]:
    """Rows of the 7,909 published names, and (slide_id, subtype) -> the sides on which each fold has its images."""
    images: dict[str, dict] = {}
    sides: dict[tuple[str, str], list[set[str]]] = {}
    for fold in range(5):
        for line in (NAMES / f"dsfold{fold + 1}.txt").read_text().splitlines():
            name, _, _, side = line.split("|")
            subtype, slide, letters, magnification, number = BREAKHIS.match(name).groups()
            images[name] = breakhis_image(slide, letters, subtype, int(magnification), int(number))
            sides.setdefault((slide + letters, subtype), [set() for _ in range(5)])[fold].add(side)
    return completed(list(images.values())), sides


def write_validated(frame: pd.DataFrame, path: Path) -> None:
    write_manifest(frame, {"schema_version": 1, "sources": SOURCES, "data": "demo"}, path)
