"""The index of one split protocol: every validated image with the part it plays. No case plays two parts."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa

from stages.contracts.errors import StageError
from stages.contracts.manifest import MANIFEST
from stages.contracts.tables import read_metadata, read_table, write_table

Protocol = Literal["case", "published", "kfold", "image"]
PARTS = ("train", "val", "test")
SCHEMA_VERSION = 1

INDEX = MANIFEST.append(pa.field("split", pa.string())).append(pa.field("fold", pa.int8()))
"""Validated rows with their part. Sorted by (fold, source, image_id); `fold` is 0 where the protocol has no folds,
else 1..k, each fold holding every row of the protocol once."""


def index_path(protocol: str) -> Path:
    """Where the index of `protocol` lies."""
    return Path("data/index") / f"{protocol}.parquet"


def shared_cases(frame: pd.DataFrame) -> list[str]:
    """Cases that stand in more than one part of the same fold, sorted."""
    parts = frame.groupby(["fold", "case_id"])["split"].nunique()
    return sorted(set(parts[parts > 1].index.get_level_values("case_id")))


def write_index(frame: pd.DataFrame, metadata: Mapping[str, Any], path: Path) -> None:
    """Write an index. Raises StageError if a case is in two parts, unless metadata's `protocol` is `image`."""
    _assert_disjoint(frame, str(metadata["protocol"]), path)
    write_table(frame.sort_values(["fold", "source", "image_id"], kind="stable"), INDEX, metadata, path)


def read_index(path: Path, fold: int = 0) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One fold of an index, and the file's metadata (schema_version, protocol, policy, rationale, seed, counts, data).

    Raises StageError if the fold is absent or, in every protocol but `image`, a case is in two parts.
    """
    metadata = read_metadata(path)
    frame = read_table(path)
    folds = sorted(int(value) for value in frame["fold"].unique())
    frame = frame[frame["fold"] == fold].reset_index(drop=True)
    if frame.empty:
        raise StageError(f"{path} has no fold {fold}; it has {folds}: set `fold` of the recipe to one of them")
    _assert_disjoint(frame, metadata["protocol"], path)
    return frame, metadata


def _assert_disjoint(frame: pd.DataFrame, protocol: str, path: Path) -> None:
    shared = shared_cases(frame)
    if shared and protocol != "image":
        shown = ", ".join(shared[:5])
        raise StageError(
            f"{path}: {len(shared)} cases are in two parts ({shown}); a case must be in one. "
            "The file was not written by this pipeline: delete it and run `dvc repro`"
        )
