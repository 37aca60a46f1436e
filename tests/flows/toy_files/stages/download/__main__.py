"""Lays out a source: one case a line."""

import sys
from pathlib import Path

from stages import given

source, archive = sys.argv[1], given(sys.argv[1])
target = Path("data/raw") / source / "cases.txt"
target.parent.mkdir(parents=True, exist_ok=True)
target.write_text(archive.read_text() if archive else "")
