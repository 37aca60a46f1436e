"""The index of one split protocol: every validated image with the part it plays. No case plays two parts, unless the
protocol is one that leaks; then the file says how many do."""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from stages.contracts.errors import StageError
from stages.contracts.files import write_text
from stages.contracts.manifest import MANIFEST
from stages.contracts.sections import Protocol
from stages.contracts.tables import read_metadata, read_table, write_table

PARTS = ("train", "val", "test")
SCHEMA_VERSION = 1

LEAKY: tuple[Protocol, ...] = ("published", "image")
"""Protocols in which cases may stand in two parts: BreakHis's official folds, and a split by image. Their metadata
declare how many do in each fold (`shared_cases`); any other number is an error."""

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
    """Write an index. Raises StageError if more cases are in two parts than the metadata declare: none, unless
    `protocol` is one of LEAKY."""
    _assert_disjoint(frame, metadata, path)
    write_table(frame.sort_values(["fold", "source", "image_id"], kind="stable"), INDEX, metadata, path)


def read_index(path: Path, fold: int = 0) -> tuple[pd.DataFrame, dict[str, Any]]:
    """One fold of an index, and the file's metadata: schema_version, protocol, policy, rationale, seed, counts, data,
    sources (of the archives), shared_cases (fold -> number).

    Raises StageError if the fold is absent, or if a case is in two parts that the metadata do not declare.
    """
    metadata = read_metadata(path)
    frame = read_table(path)
    folds = sorted(int(value) for value in frame["fold"].unique())
    frame = frame[frame["fold"] == fold].reset_index(drop=True)
    if frame.empty:
        raise StageError(f"{path} has no fold {fold}; it has {folds}: set `fold` of the recipe to one of them")
    _assert_disjoint(frame, metadata, path)
    return frame, metadata


def _assert_disjoint(frame: pd.DataFrame, metadata: Mapping[str, Any], path: Path) -> None:
    declared = metadata.get("shared_cases", {}) if metadata["protocol"] in LEAKY else {}
    for fold, rows in frame.groupby("fold"):
        shared = shared_cases(rows)
        expected = declared.get(str(fold), 0)
        if len(shared) != expected:
            shown = f" ({', '.join(shared[:5])})" if shared else ""
            raise StageError(
                f"{path}: {len(shared)} cases are in two parts of fold {fold}{shown}; {expected} may be. "
                "The file was not written by this pipeline: delete it and run `dvc repro`"
            )


def assignment(frame: pd.DataFrame) -> dict[str, str]:
    """The part of each case in an index without folds, sorted by case: what `index.frozen` keeps."""
    cases = frame[["case_id", "split"]].drop_duplicates().sort_values(["case_id", "split"])
    if not cases["case_id"].is_unique:
        raise StageError("a case is in two parts or folds; only an index of the protocol case has an assignment table")
    return dict(zip(cases["case_id"], cases["split"], strict=True))


def write_assignment(parts: Mapping[str, str], path: Path) -> None:
    """Write an assignment table: CSV with the header `case_id,part`, sorted by case."""
    write_text("".join(f"{case},{part}\n" for case, part in [("case_id", "part"), *sorted(parts.items())]), path)


def read_assignment(path: Path) -> dict[str, str]:
    """Read an assignment table, case -> part.

    Raises StageError naming the line: another header, not two fields, no case, an unknown part, a case named twice.
    """
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except FileNotFoundError:
        raise StageError(f"{path} is missing; restore the assignment table or name another one") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise StageError(f"{path} is not a CSV table ({error}); expected lines of case_id,part") from None
    if rows[:1] != [["case_id", "part"]]:
        raise StageError(
            f"{path}, line 1: expected the header case_id,part, found {','.join(rows[0]) if rows else ''!r}"
        )
    parts: dict[str, str] = {}
    for number, row in enumerate(rows[1:], start=2):
        fault = _fault(row, parts)
        if fault:
            raise StageError(f"{path}, line {number}: {fault}; correct the table")
        parts[row[0]] = row[1]
    return parts


def _fault(row: list[str], known: Mapping[str, str]) -> str | None:
    """What is wrong with one line of an assignment table."""
    if len(row) != 2 or not row[0]:
        return f"expected case_id,part, found {','.join(row)!r}"
    if row[1] not in PARTS:
        return f"part {row[1]!r} of case {row[0]} is not one of {', '.join(PARTS)}"
    if row[0] in known:
        return f"case {row[0]} stands in the table twice"
    return None
