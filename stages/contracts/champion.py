"""The champion of a task, as `stroma retrain` lays it out in the workspace that is gated: `.stroma/champions/<task>/`.

Git ignores it and DVC does not know it: which model is champion is what the registry says, and this is a copy to
measure it on. model/, operating.json, assignment.csv and version.json are laid out; predictions.parquet is made there
by `python -m stages.evaluate.champion TASK`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from stages.contracts.errors import StageError
from stages.contracts.files import read_json, sha256_of
from stages.contracts.index import index_path, read_assignment
from stages.contracts.modelfolder import ModelRecord, read_record
from stages.contracts.operating import OperatingPoint
from stages.contracts.tables import read_metadata, read_table

Task = Literal["binary", "subtype"]
TASKS: tuple[Task, ...] = get_args(Task)

CHAMPIONS = Path(".stroma/champions")
WEIGHTS = "model.safetensors"
LAID_OUT = ("model/recipe.json", f"model/{WEIGHTS}", "operating.json", "assignment.csv", "version.json")


@dataclass(frozen=True)
class Champion:
    """What is known of a champion before it is scored again."""

    folder: Path
    version: dict[str, Any]
    """name, version and recipe, as the registry has them."""
    record: ModelRecord
    operating: OperatingPoint
    parts: dict[str, str]
    """The part of each case in the index that it was trained on."""

    @property
    def name(self) -> str:
        """`champion-binary v1.2.0`."""
        return f"{self.version['name']} {self.version['version']}"

    @property
    def predictions(self) -> Path:
        """Where its probabilities on val and test of the index as it is now are kept."""
        return self.folder / "predictions.parquet"

    def origin(self) -> dict[str, str]:
        """sha256 of the two files that its predictions are made from; they carry it, so that stale ones are known."""
        return {
            "model_sha256": sha256_of(self.folder / "model" / WEIGHTS),
            "index_sha256": sha256_of(index_path(self.record.protocol)),
        }

    def read_predictions(self) -> pd.DataFrame:
        """Its predictions. Raises StageError where they are missing, or not of this model on this index."""
        again = f"run `python -m stages.evaluate.champion {self.record.settings['task']}`"
        if not self.predictions.is_file():
            raise StageError(f"{self.predictions} is missing; {again}")
        said = read_metadata(self.predictions)
        for key, found in self.origin().items():
            if said.get(key) != found:
                raise StageError(f"{self.predictions} was made from another {key.removesuffix('_sha256')}; {again}")
        return read_table(self.predictions)


def read_champion(task: Task) -> Champion | None:
    """The champion laid out for `task`, None if there is none yet. Raises StageError where its folder lacks a file."""
    folder = CHAMPIONS / task
    if not folder.is_dir():
        return None
    missing = [name for name in LAID_OUT if not (folder / name).is_file()]
    if missing:
        raise StageError(
            f"{folder} lacks {', '.join(missing)}; `stroma retrain` lays the champion out, or delete the folder to do "
            "without a champion"
        )
    version = read_json(folder / "version.json")
    absent = [key for key in ("name", "version", "recipe") if key not in version]
    if absent:
        raise StageError(f"{folder}/version.json lacks {', '.join(absent)}; expected name, version and recipe")
    record = read_record(folder / "model")
    if not isinstance(record, ModelRecord):
        raise StageError(f"{folder}/model holds no model ({record.reason}); only a trained recipe can be champion")
    if record.settings["task"] != task:
        raise StageError(f"{folder} holds a model of the task {record.settings['task']}, expected {task}")
    operating = OperatingPoint.read(folder / "operating.json")
    return Champion(folder, version, record, operating, read_assignment(folder / "assignment.csv"))
