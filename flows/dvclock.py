"""What dvc.lock says of a stage's outputs, and the order of its entries, which parallel stages leave to chance."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from dvc.utils.serialize import modify_yaml

from flows.graph import Plan, opened

PENDING = Path(".stroma/lock_order.json")
"""The order of each dvc.lock before a run, until it was put right; a run that was killed leaves it to the next one."""

Outputs = Mapping[str, str]
"""Path of an output -> all that dvc.lock says of it, hash included."""


def stage_entry(workspace: Path, plan: Plan, name: str) -> tuple[Outputs | None, int | None]:
    """Outputs of a stage and their size in bytes, as its dvc.lock has them; None, None where it has no entry.

    Reads under DVC's lock: dvc.lock is written in place, and other stages are writing it.
    """
    if name not in plan.lock_files:
        return None, None
    with opened(workspace):
        return _of(read_entries(workspace / plan.lock_files[name]), name)


def _of(entries: Mapping[str, Any], name: str) -> tuple[Outputs | None, int | None]:
    entry = entries.get(_key(name))
    if entry is None:
        return None, None
    outs = entry.get("outs", [])
    return {out["path"]: json.dumps(out, sort_keys=True) for out in outs}, sum(out.get("size") or 0 for out in outs)


def _key(name: str) -> str:
    """A stage's key in its own dvc.lock. A name of the root file holds no colon before its first `@`."""
    file, colon, stage = name.partition(":")
    return stage if colon and file.endswith(".yaml") else name


def read_entries(path: Path) -> dict[str, Any]:
    """The entries of a dvc.lock in their order; empty where there is no file."""
    return (parsed(path.read_text(encoding="utf-8")) or {}).get("stages", {}) if path.exists() else {}


def parsed(text: str) -> Any:
    """The content of a dvc.lock. DVC's own parser takes 0.1 s for 50 stages, libyaml a hundredth of it."""
    return yaml.load(text, yaml.CSafeLoader)


def before_run(workspace: Path, plan: Plan) -> dict[str, tuple[Outputs | None, int | None]]:
    """What dvc.lock holds of every stage; the order of the entries is noted.

    What a killed run left noted stays: its order is the older one.
    """
    path = workspace / PENDING
    known = json.loads(path.read_text()) if path.exists() else {}
    with opened(workspace):
        read = {file: read_entries(workspace / file) for file in sorted(set(plan.lock_files.values()))}
    path.write_text(json.dumps({**{file: list(entries) for file, entries in read.items()}, **known}))
    return {name: _of(read[file], name) for name, file in plan.lock_files.items()}


def restore_order(workspace: Path, plan: Plan) -> None:
    """Put the entries into the order that plain `dvc repro` would have left, byte for byte, under DVC's lock.

    Entries that were there keep their place, foreign ones too; new ones follow in the order in which `dvc repro` runs.
    """
    path = workspace / PENDING
    with opened(workspace):
        for file, before in json.loads(path.read_text()).items():
            now = list(read_entries(workspace / file))
            fresh = [_key(name) for name, its_file in plan.lock_files.items() if its_file == file]
            wanted = sorted(now, key=[*before, *(name for name in fresh if name not in before), *now].index)
            if wanted == now:
                continue
            with modify_yaml(str(workspace / file)) as data:
                stages = data["stages"]
                data["stages"] = {name: stages[name] for name in wanted}
    path.unlink()
