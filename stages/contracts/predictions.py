"""Predictions of one recipe: a row per image of val and test, with logits and a probability for each class."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from stages.contracts.tables import write_table


def predictions_schema(class_names: Sequence[str]) -> pa.Schema:
    """image_id, case_id, source, split, target (class index), then logit_<class> and probability_<class>.

    Only val and test are predicted: train would more than triple the cost at full scale and nothing is scored on it.
    Logits are raw (of an ensemble, which has none, the logarithm of its probability); probabilities are calibrated
    (temperature of the operating point), in [0, 1], and sum to 1 over the classes. Sorted by (split, source, image_id).
    A recipe that was not run has no rows and no classes.
    """
    return pa.schema(
        [(name, pa.string()) for name in ("image_id", "case_id", "source", "split")]
        + [("target", pa.int8())]
        + [(f"logit_{name}", pa.float32()) for name in class_names]
        + [(f"probability_{name}", pa.float32()) for name in class_names]
    )


def write_predictions(frame: pd.DataFrame, class_names: Sequence[str], metadata: Mapping[str, Any], path: Path) -> None:
    """Write predictions; the class names, in the order of the targets, go into the metadata."""
    rows = frame.sort_values(["split", "source", "image_id"], kind="stable")
    write_table(rows, predictions_schema(class_names), {**metadata, "class_names": list(class_names)}, path)
