"""Small manifests of sound rows in the publishers' real name grammars, for the tests of validate to spoil."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from stages.contracts.manifest import write_manifest
from stages.contracts.tables import read_table
from stages.validate.environment import settle

settle()  # before any test imports Great Expectations

SUBTYPE_FOLDERS = {
    "A": "benign/SOB/adenosis",
    "F": "benign/SOB/fibroadenoma",
    "PT": "benign/SOB/phyllodes_tumor",
    "TA": "benign/SOB/tubular_adenoma",
    "DC": "malignant/SOB/ductal_carcinoma",
    "LC": "malignant/SOB/lobular_carcinoma",
    "MC": "malignant/SOB/mucinous_carcinoma",
    "PC": "malignant/SOB/papillary_carcinoma",
}
ARCHIVE = {source: hashlib.sha256(source.encode()).hexdigest() for source in ("breakhis", "idc")}


def frame_of(rows: Iterable[dict]) -> pd.DataFrame:
    """Rows as the frame that comes back from a manifest file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "manifest.parquet"
        write_manifest(pd.DataFrame(list(rows)), {}, path)
        return read_table(path)


def idc_rows(cases: int = 4, patches: int = 6, first: int = 8863) -> list[dict]:
    """`patches` patches of each case, one in three malignant."""
    rows = []
    for case in range(first, first + cases):
        for number in range(patches):
            label, x, y = int(number % 3 == 2), 1 + 50 * (number % 40), 1 + 50 * (number // 40)
            stem = f"{case}_idx5_x{x}_y{y}_class{label}"
            member = f"{case}/{label}/{stem}.png"
            rows.append(_row("idc", stem, member, f"idc-{case}", label, 50, 50) | {"x": x, "y": y})
    return rows


def breakhis_rows(cases: int = 8, images: int = 1) -> list[dict]:
    """`images` images at each magnification of one slide a case, over all eight subtypes."""
    slides = [f"SOB_{'BM'[case % 8 > 3]}_{list(SUBTYPE_FOLDERS)[case % 8]}-14-{1000 + case}AB" for case in range(cases)]
    numbers = [f"{power}-{image:03}" for power in (40, 100, 200, 400) for image in range(1, images + 1)]
    names = [f"{slide}-{number}.png" for slide in slides for number in numbers]
    return [breakhis_row(name) for name in names]


def breakhis_row(name: str) -> dict:
    """The manifest row of one file name of BreakHis."""
    stem = name.removesuffix(".png")
    kind, year, number, power, _ = stem.split("-")
    _, letter, subtype = kind.split("_")
    digits = number.rstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    folder = f"BreaKHis_v1/histology_slides/breast/{SUBTYPE_FOLDERS[subtype]}/{kind}_{year}-{number}/{power}X"
    row = _row("breakhis", stem, f"{folder}/{name}", f"breakhis-{year}-{digits}", int(letter == "M"), 700, 460)
    return row | {"slide_id": f"{year}-{number}", "subtype": subtype, "magnification": int(power)}


def _row(source: str, stem: str, member: str, case: str, label: int, width: int, height: int) -> dict:
    digest = hashlib.sha256(stem.encode()).hexdigest()
    return {
        "image_id": f"{source}-{stem}",
        "case_id": case,
        "source": source,
        "archive_sha256": ARCHIVE[source],
        "member": member,
        "copies": 1,
        "slide_id": None,
        "label": label,
        "subtype": None,
        "magnification": None,
        "x": None,
        "y": None,
        "width": width,
        "height": height,
        "mode": "RGB",
        "bytes": 5_800,
        "sha256": digest,
        "pixel_sha256": digest[::-1],
        **{"mean_r": 200.0, "mean_g": 150.0, "mean_b": 190.0, "std_r": 30.0, "std_g": 40.0, "std_b": 25.0},
        "blank": 0.05,
        "blur": 300.0,
        "padded": False,
        "pixel_row": 0,
        "decode_error": None,
    }


def sources(kind: str = "given", absent: tuple[str, ...] = ()) -> dict:
    """source.json of both sources, as the manifest's metadata carry it."""
    return {
        name: {
            "source": name,
            "kind": kind,
            "present": name not in absent,
            "file": None if name in absent else f"{name}.zip",
            "url": None,
            "licence": None,
            "size": None if name in absent else 1,
            "sha256": None if name in absent else ARCHIVE[name],
            "reason": f"profiles.local.{name} is null" if name in absent else None,
        }
        for name in ("breakhis", "idc")
    }


def whole_idc_rows() -> list[dict]:
    """As many patches of each label and as many cases as the publisher states, under drawn coordinates."""
    labels = np.zeros(277_524, dtype=int)
    labels[np.linspace(0, 277_523, 78_786).astype(int)] = 1
    first = _row("idc", "a", "a", "a", 0, 50, 50) | {"x": 1, "y": 1}
    rows = []
    for number, label in enumerate(labels.tolist()):
        case, place = 9000 + number % 279, number // 279
        stem = f"{case}_idx5_x{1 + 50 * (place % 80)}_y{1 + 50 * (place // 80)}_class{label}"
        own = {"image_id": f"idc-{stem}", "case_id": f"idc-{case}", "member": f"{case}/{label}/{stem}.png"}
        rows.append(first | own | {"label": label, "sha256": stem, "pixel_sha256": stem})
    return rows
