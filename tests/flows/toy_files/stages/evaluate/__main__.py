"""Scores a model."""

import json
import sys
from pathlib import Path

from stages import write

recipe = sys.argv[1]
quality = json.loads(Path(f"models/{recipe}/model.safetensors").read_text())
write(f"reports/operating/{recipe}.json", {"temperature": 1.0})
write(f"reports/metrics/{recipe}.json", {"quality": quality})
