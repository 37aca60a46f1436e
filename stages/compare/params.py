"""What the room reads of params.yaml: the names of the recipes, whose own fields come from the model folders."""

from typing import Any

SECTIONS: dict[str, Any] = {"recipes": dict[str, Any]}
"""Only the keys count: their order is that of the rows, and a recipe that was deleted has no row."""
