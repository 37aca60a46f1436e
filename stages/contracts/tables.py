"""Parquet tables with a declared schema and metadata that equal values turn into equal bytes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from stages.contracts.errors import StageError
from stages.contracts.files import appearing

METADATA_KEY = b"stroma"
"""One key that holds all of our metadata as JSON, beside pandas' own."""


def write_table(frame: pd.DataFrame, schema: pa.Schema, metadata: Mapping[str, Any], path: Path) -> None:
    """Write `frame` atomically as Parquet under `schema`; its columns and their order are those of the schema.

    Raises StageError where a column is missing, and pyarrow's error where a value does not fit its type.
    """
    missing = [name for name in schema.names if name not in frame.columns]
    if missing:
        raise StageError(f"{path}: columns {missing} are missing from what is to be written")
    table = pa.Table.from_pandas(frame[schema.names].reset_index(drop=True), schema=schema, preserve_index=False)
    text = json.dumps(dict(metadata), sort_keys=True, ensure_ascii=False, allow_nan=False)
    table = table.replace_schema_metadata({METADATA_KEY: text.encode()})
    with appearing(path) as part:
        pq.write_table(table, part, compression="zstd", row_group_size=1 << 16)


def read_table(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read a table written by `write_table`; integers that may be null come as pandas' nullable types.

    Raises StageError when the file is absent or is no whole Parquet file.
    """
    try:
        return pq.read_table(path, columns=columns).to_pandas(types_mapper=_NULLABLE.get)
    except FileNotFoundError:
        raise StageError(f"{path} is missing; `dvc repro` makes it") from None
    except pa.ArrowInvalid as error:
        raise StageError(f"{path} is not a readable Parquet file ({error}); delete it and run `dvc repro`") from None


def read_metadata(path: Path) -> dict[str, Any]:
    """The metadata given to `write_table`. Raises StageError as `read_table` does."""
    try:
        return json.loads(pq.read_schema(path).metadata[METADATA_KEY])
    except FileNotFoundError:
        raise StageError(f"{path} is missing; `dvc repro` makes it") from None
    except (pa.ArrowInvalid, KeyError, TypeError) as error:
        raise StageError(f"{path} carries no metadata of ours ({error}); delete it and run `dvc repro`") from None


_NULLABLE = {
    pa.int8(): pd.Int8Dtype(),
    pa.int16(): pd.Int16Dtype(),
    pa.int32(): pd.Int32Dtype(),
    pa.int64(): pd.Int64Dtype(),
}
