"""Small manifests of sound rows in the publishers' real name grammars, for the tests of validate to spoil."""

import hashlib
from collections.abc import Iterable

import pandas as pd

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
    """Rows as a manifest frame with the types that the Parquet file gives back, sorted as it is."""
    frame = pd.DataFrame(list(rows)).sort_values(["source", "image_id"], ignore_index=True)
    types = {"label": "Int8", "magnification": "Int16", "pixel_row": "Int64", "bytes": "Int64"}
    types |= dict.fromkeys(["copies", "x", "y", "width", "height"], "Int32")
    frame = frame.astype(types)
    texts = ["image_id", "case_id", "source", "archive_sha256", "member", "slide_id", "subtype", "mode", "sha256"]
    frame[[*texts, "pixel_sha256", "decode_error"]] = frame[[*texts, "pixel_sha256", "decode_error"]].astype("str")
    return frame


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
    names = [
        f"SOB_{'B' if index % 8 < 4 else 'M'}_{list(SUBTYPE_FOLDERS)[index % 8]}-14-{1000 + index}AB-{power}-{image:03}.png"
        for index in range(cases)
        for power in (40, 100, 200, 400)
        for image in range(1, images + 1)
    ]
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
