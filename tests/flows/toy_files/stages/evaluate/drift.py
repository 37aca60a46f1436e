"""Holds a batch against the index: a case whose name does not start with idc- is drift."""

import json
import sys
from pathlib import Path

from stages import write

assert Path("data/index/case.parquet").exists()
batch = json.loads((Path(sys.argv[1]) / "data/manifest.parquet").read_text())
sources = {
    source: {"verdict": "stable" if all(case.startswith("idc-") for case in cases) else "drifted", "reason": "names"}
    for source, cases in batch.items()
    if cases
}
verdicts = {found["verdict"] for found in sources.values()}
verdict = next((one for one in ("drifted", "stable") if one in verdicts), "undecided")
write(".stroma/drift.json", {"data": "demo", "model": "toy", "verdict": verdict, "sources": sources})
