"""Checkpoints, from which a training that was cut goes on to the same bytes as one that was not.

They live outside DVC's outputs, in `.stroma/checkpoints/<recipe>/<fingerprint>.safetensors`: one file, whole or not at
all, tensors plus one JSON text, no pickle. The fingerprint covers all that decides the result, so a checkpoint of
another recipe, other data or other code is never taken up.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from stages.contracts.files import appearing, remove

CHECKPOINTS = Path(".stroma/checkpoints")
STATE = "state"


def fingerprint(parts: Mapping[str, Any]) -> str:
    """A short name for all that decides a training's result. parts: JSON values, in any order."""
    text = json.dumps(parts, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Checkpoint:
    """The one checkpoint of a training."""

    path: Path

    @classmethod
    def of(cls, recipe: str, name: str, folder: Path = CHECKPOINTS) -> "Checkpoint":
        """The place of `recipe`'s checkpoint with the fingerprint `name`; what other fingerprints left is deleted."""
        path = folder / recipe / f"{name}.safetensors"
        if path.parent.is_dir():
            for stale in path.parent.iterdir():
                if stale != path:
                    remove(stale)
        return cls(path)

    def load(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
        """Tensors by name and the state that goes with them, or None if there is nothing to go on from.

        A file that the machine lost half of in a power cut counts as nothing: it costs time, not correctness.
        """
        if not self.path.exists():
            return None
        try:
            with safe_open(self.path, framework="pt") as file:
                metadata = file.metadata()
                return {name: file.get_tensor(name) for name in file.keys()}, json.loads(metadata[STATE])  # noqa: SIM118
        except SafetensorError:
            remove(self.path)
            return None

    def save(self, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
        """Replace the checkpoint. state: JSON values."""
        packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with appearing(self.path) as part:
            save_file(packed, part, metadata={STATE: json.dumps(state)})

    def clear(self) -> None:
        """Delete it: the training is done."""
        remove(self.path)
        if self.path.parent.is_dir() and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()
