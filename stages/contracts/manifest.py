"""The manifest: one row per image of the archives, good or bad. Merge writes it; validate parts it in two."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from stages.contracts.sections import Source
from stages.contracts.tables import write_table

SOURCES: tuple[Source, ...] = ("breakhis", "idc")
"""The two data sets, in the order in which every table sorts them."""

BENIGN, MALIGNANT = 0, 1
LABELS = ("benign", "malignant")
"""Names of label 0 and label 1."""

SUBTYPES = ("A", "F", "PT", "TA", "DC", "LC", "MC", "PC")
"""BreakHis subtypes: four benign, then four malignant (Spanhol et al., IEEE TBME 2016)."""
BENIGN_SUBTYPES = SUBTYPES[:4]

MAGNIFICATIONS = (40, 100, 200, 400)

SCHEMA_VERSION = 1

MANIFEST = pa.schema(
    [
        ("image_id", pa.string()),  # unique over sources: idc-8863_idx5_x1001_y1001_class0
        ("case_id", pa.string()),  # unit that must not be split: idc-8863, breakhis-14-22549; null if unparsed
        ("source", pa.string()),
        ("archive_sha256", pa.string()),
        ("member", pa.string()),  # path inside the archive of the copy that was decoded
        ("copies", pa.int32()),  # how often this name stands in the archive; 1 = once
        ("slide_id", pa.string()),  # BreakHis: 14-22549AB; null for IDC, where the release names none
        ("label", pa.int8()),
        ("subtype", pa.string()),  # null for IDC
        ("magnification", pa.int16()),  # null for IDC
        ("x", pa.int32()),  # IDC: position of the patch in its case, pixels
        ("y", pa.int32()),
        ("width", pa.int32()),  # as in the file, before padding or reduction
        ("height", pa.int32()),
        ("mode", pa.string()),  # Pillow's: RGB, RGBA, L, ...
        ("bytes", pa.int64()),
        ("sha256", pa.string()),  # of the file; null where the member was refused unread
        ("pixel_sha256", pa.string()),  # of width, height and the decoded RGB bytes
        ("mean_r", pa.float32()),  # 0-255, over the stored pixels
        ("mean_g", pa.float32()),
        ("mean_b", pa.float32()),
        ("std_r", pa.float32()),
        ("std_g", pa.float32()),
        ("std_b", pa.float32()),
        ("blank", pa.float32()),  # share of stored pixels with all channels above 220, 0-1
        ("blur", pa.float32()),  # variance of the Laplacian of the stored luma; low = blurred
        ("padded", pa.bool_()),  # the stored pixels were padded by reflection
        ("pixel_row", pa.int64()),  # row in data/pixels/<source>.npy, archive order; null if not decoded
        ("decode_error", pa.string()),  # why the row has no pixels or no meaning; null = sound
    ]
)
"""Sorted by (source, image_id)."""

QUARANTINE = MANIFEST.append(pa.field("reason", pa.string()))


def write_manifest(frame: pd.DataFrame, metadata: Mapping[str, Any], path: Path) -> None:
    """Write manifest rows (or validated rows, of the same schema), sorted by source and image."""
    write_table(frame.sort_values(["source", "image_id"], kind="stable"), MANIFEST, metadata, path)


def write_quarantine(frame: pd.DataFrame, metadata: Mapping[str, Any], path: Path) -> None:
    """Write the rows that validate held back, each with its `reason`."""
    write_table(frame.sort_values(["source", "image_id"], kind="stable"), QUARANTINE, metadata, path)
