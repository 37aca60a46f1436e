"""The rooms of the toy: the real doors and files, and a second of work in place of an hour."""

import json
import os
import sys
from pathlib import Path

import yaml


def params() -> dict:
    return yaml.safe_load(Path("params.yaml").read_text())


def given(source: str) -> Path | None:
    value = params()["profiles"]["local"][source]
    return Path(os.environ.get("STROMA_ROOT", "")) / value if value else None


def write(path: str, value: object) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(value, indent=2, sort_keys=True) + "\n")


def fail(why: str) -> None:
    print(f"toy: error: {why}", file=sys.stderr)
    raise SystemExit(1)
