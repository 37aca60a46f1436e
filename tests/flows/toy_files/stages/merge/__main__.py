"""Joins the sources of a batch into a manifest."""

from pathlib import Path

from stages import write

write("data/manifest.parquet", {path.parent.name: path.read_text().split() for path in Path("data/raw").glob("*/*")})
