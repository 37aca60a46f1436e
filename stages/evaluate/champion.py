"""`python -m stages.evaluate.champion TASK`: score the champion of a task on the index as it is now, for the gate.

Its own locked temperature is used and nothing is fitted: the threshold and temperature of a champion are part of it.
"""

from pathlib import Path

from stages.contracts.door import enter
from stages.contracts.errors import StageError
from stages.contracts.sections import Params, nearest, section
from stages.evaluate.params import EvaluateParams


def work(params: Params, task: str) -> str:
    """Predict val and test of the champion's protocol; say how many images of which model."""
    from stages.contracts.champion import CHAMPIONS, TASKS, read_champion
    from stages.contracts.index import index_path, read_index
    from stages.contracts.modelfolder import load_model, prepare
    from stages.contracts.operating import probabilities
    from stages.contracts.pixels import open_pixels
    from stages.contracts.predictions import write_predictions
    from stages.evaluate.predict import predict_logits, scored_rows, settle

    named = next((one for one in TASKS if one == task), None)
    if named is None:
        raise StageError(f"there is no task {task!r}{nearest(task, list(TASKS))}")
    champion = read_champion(named)
    if champion is None:
        raise StageError(f"{CHAMPIONS / task} is not there: no champion was laid out; `stroma retrain` does that")
    record = champion.record
    path = index_path(record.protocol)
    index, metadata = read_index(path, record.fold)
    rows = scored_rows(index, record.sources, task)
    if rows.empty:
        raise StageError(f"{path} has no val and no test image of {', '.join(record.sources)}; give it more cases")
    model, _ = load_model(champion.folder / "model")
    pixels = {source: open_pixels(Path(f"data/pixels/{source}.npy")) for source in rows["source"].unique()}
    batch = section(params, "evaluate", EvaluateParams).batch_size
    logits = predict_logits(settle(model, record.threads), prepare(record), pixels, rows, batch)
    found = rows[["image_id", "case_id", "source", "split", "target"]]
    for name, values in (("logit", logits), ("probability", probabilities(logits, champion.operating.temperature))):
        found = found.assign(**{f"{name}_{one}": values[:, place] for place, one in enumerate(record.class_names)})
    about = {"schema_version": 1, "recipe": record.recipe, "protocol": record.protocol, "fold": record.fold}
    about |= {"data": metadata["data"], **champion.origin()}
    write_predictions(found, record.class_names, about, champion.predictions)
    return f"{champion.name} scored on {len(rows):,} images of val and test, split by {record.protocol}"


if __name__ == "__main__":
    enter("evaluate.champion", work, argument="task")
