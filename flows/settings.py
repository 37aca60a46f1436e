"""params.yaml and dvc.yaml, as far as a retrain reads and edits them: one value, and not a byte beside it."""

from pathlib import Path
from typing import Any

import yaml

from flows.errors import FlowError


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file as plain values. Raises FlowError where it cannot be read."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise FlowError(f"{path} cannot be read: {' '.join(str(error).split())}") from None


def value_at(values: dict[str, Any], key: str, file: Path) -> Any:
    """The value at a dotted key. Raises FlowError naming the key where it is missing."""
    found: Any = values
    for name in key.split("."):
        if not isinstance(found, dict) or name not in found:
            raise FlowError(f"{file}: {key} is missing")
        found = found[name]
    return found


def set_value(path: Path, key: str, value: str) -> None:
    """Replace the scalar at a dotted key of a YAML file; all else stays. Raises FlowError where it is missing."""
    text = path.read_text(encoding="utf-8")
    node = yaml.compose(text)
    for name in key.split("."):
        fields = node.value if isinstance(node, yaml.MappingNode) else []
        node = next((inner for known, inner in fields if known.value == name), None)
    if not isinstance(node, yaml.ScalarNode):
        raise FlowError(f"{path}: {key} is missing, so that it cannot be set to {value}")
    path.write_text(text[: node.start_mark.index] + value + text[node.end_mark.index :], encoding="utf-8")
