"""Scores a champion on the present index."""

import json
import sys
from pathlib import Path

from stages import write

folder = Path(".stroma/champions") / sys.argv[1]
assert (folder / "operating.json").exists()
assert (folder / "assignment.csv").read_text().startswith("case_id,part\n")
write(str(folder / "predictions.parquet"), json.loads((folder / "model/model.safetensors").read_text()))
