"""`python -m stages.evaluate RECIPE`: predict val and test, lock the operating point on val, score test once."""

from pathlib import Path

from stages.contracts.door import enter
from stages.contracts.errors import StageError
from stages.contracts.sections import Params, section
from stages.evaluate.params import EvaluateParams


def work(params: Params, recipe: str) -> str:
    """Evaluate one recipe; return one sentence with its headline numbers."""
    from stages.contracts.index import index_path, read_index
    from stages.contracts.modelfolder import Skipped, load_model, model_folder, prepare, read_record
    from stages.contracts.pixels import open_pixels
    from stages.evaluate.evaluation import evaluated, not_run, said, write_evaluation
    from stages.evaluate.predict import predict_logits, scored_rows, settle

    knobs = section(params, "evaluate", EvaluateParams)
    record = read_record(model_folder(recipe))
    if isinstance(record, Skipped):
        write_evaluation(not_run(record), recipe)
        return f"not run: {record.reason}"
    path = index_path(record.protocol)
    index, _ = read_index(path, record.fold)
    rows = scored_rows(index, record.sources, record.settings["task"])
    if rows.empty:
        raise StageError(f"{path} has no val and no test image of {', '.join(record.sources)}; give it more cases")
    model, _ = load_model(model_folder(recipe))
    pixels = {source: open_pixels(Path(f"data/pixels/{source}.npy")) for source in record.sources}
    logits = predict_logits(settle(model, record.threads), prepare(record), pixels, rows, knobs.batch_size)
    evaluation = evaluated(rows, logits, record, knobs.calibration_bins, knobs.specificity)
    write_evaluation(evaluation, recipe)
    return f"{len(rows):,} images of val and test scored, split by {record.protocol}; {said(evaluation.headline)}"


if __name__ == "__main__":
    enter("evaluate", work, argument="recipe")
