"""The model by whose output a batch's class prior is judged: the champion, or a recipe until there is one."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.contracts.champion import read_champion
from stages.contracts.errors import StageError
from stages.contracts.modelfolder import ModelRecord, Skipped, load_model, model_folder, prepare, read_record
from stages.contracts.operating import OperatingPoint, malignant_probability, probabilities
from stages.contracts.pixels import open_pixels
from stages.contracts.tables import read_table
from stages.evaluate.predict import predict_logits, settle


@dataclass(frozen=True)
class Judge:
    """A trained model, its locked operating point, and what it said of val and test."""

    name: str
    folder: Path
    record: ModelRecord
    operating: OperatingPoint
    predictions: pd.DataFrame

    def decided(self, predictions: pd.DataFrame, source: str) -> pd.DataFrame:
        """Its output as `predictions` of one source hold it: of val and test, not of train, of which it is surer."""
        probability = predictions[[f"probability_{name}" for name in self.record.class_names]].to_numpy()
        return self._output(probability, source)

    def output(self, rows: pd.DataFrame, source: str, store: Path, batch_size: int) -> pd.DataFrame:
        """Its output on manifest rows with pixels in `store`, in their order. rows: index 0..n-1."""
        model, _ = load_model(self.folder)
        model = settle(model, self.record.threads)
        logits = predict_logits(model, prepare(self.record), {source: open_pixels(store)}, rows, batch_size)
        return self._output(probabilities(logits, self.operating.temperature), source)

    def _output(self, probability: np.ndarray, source: str) -> pd.DataFrame:
        malignant = malignant_probability(probability, self.record.class_names)
        called = malignant >= self.operating.thresholds[source]
        return pd.DataFrame({"malignant_probability": malignant, "called_malignant": called.astype(np.float64)})


def judge(recipe: str) -> Judge:
    """The champion of the binary task if one is laid out, else the model of `recipe`.

    Raises StageError where either lacks what it takes, or the recipe was not run.
    """
    champion = read_champion("binary")
    if champion is None:
        record = read_record(model_folder(recipe))
        if isinstance(record, Skipped):
            raise StageError(f"drift.recipe {recipe} was not run ({record.reason}); name another one in params.yaml")
        operating = OperatingPoint.read(Path(f"reports/operating/{recipe}.json"))
        predictions = read_table(Path(f"data/predictions/{recipe}.parquet"))
        return Judge(recipe, model_folder(recipe), record, operating, predictions)
    predictions = champion.read_predictions()
    return Judge(champion.name, champion.folder / "model", champion.record, champion.operating, predictions)
