"""`python -m stages.evaluate.ensemble NAME`: average the calibrated probabilities of several recipes; train nothing.

Each member's probabilities were calibrated on val by its own temperature; their mean is taken as it is. No second
temperature is fitted: it would no longer be the mean. The calibration error in the scores says how good it is.
"""

from typing import TYPE_CHECKING

from stages.contracts.door import enter
from stages.contracts.errors import StageError
from stages.contracts.sections import Params, section
from stages.evaluate.params import Ensemble, EvaluateParams

if TYPE_CHECKING:
    import pandas as pd

    from stages.contracts.ensembles import EnsembleRecord
    from stages.evaluate.averaging import Average
    from stages.evaluate.evaluation import Evaluation


def work(params: Params, name: str) -> str:
    """Average the members of the ensemble `name`, lock its thresholds on val, score test once; say how well."""
    from stages.contracts.ensembles import EnsembleRecord
    from stages.contracts.index import index_path, read_index
    from stages.contracts.modelfolder import Skipped
    from stages.evaluate.averaging import Member, average, read_member
    from stages.evaluate.evaluation import not_run, said, write_evaluation

    knobs = section(params, "evaluate", EvaluateParams)
    asked = section(params, f"ensembles.{name}", Ensemble)
    read = {recipe: read_member(recipe) for recipe in asked.members}
    left_out = {recipe: reason for recipe, reason in read.items() if isinstance(reason, str)}
    record = EnsembleRecord(members=asked.members, left_out=left_out, reproduces=asked.reproduces)
    members = [one for one in read.values() if isinstance(one, Member)]
    if not members:
        skipped = Skipped(recipe=name, reason=record.reason(), settings={})
        write_evaluation(recorded(not_run(skipped), record), name)
        return f"not run: {skipped.reason}"
    mean = average(name, members)
    if mean.protocol != asked.protocol:
        raise StageError(
            f"params.yaml: ensembles.{name}.protocol is {asked.protocol}, but its members have {mean.protocol}"
        )
    index, _ = read_index(index_path(mean.protocol), mean.fold)
    evaluation = recorded(evaluated_mean(mean, index, knobs), record)
    write_evaluation(evaluation, name)
    notes = [f"{recipe} left out, not run: {reason}" for recipe, reason in left_out.items()] + mean.notes
    return "; ".join(
        [
            f"mean of {', '.join(record.averaged)} on {len(mean.rows):,} images of val and test",
            said(evaluation.headline),
            *notes,
        ]
    )


def evaluated_mean(mean: "Average", index: "pd.DataFrame", knobs: EvaluateParams) -> "Evaluation":
    """Lock the thresholds of a mean on val, then score it. index: of the members' protocol and fold."""
    from stages.contracts.operating import malignant_probability
    from stages.evaluate.evaluation import scored
    from stages.evaluate.operating import UNFITTED_TEMPERATURE, lock_thresholds

    known = index.set_index("image_id")[["label", "subtype", "magnification"]]
    rows = mean.rows.join(known, on="image_id")
    val = (rows["split"] == "val").to_numpy()
    malignant = malignant_probability(mean.probability[val], mean.class_names)
    point = lock_thresholds(
        rows[val], malignant, mean.sources, knobs.specificity, temperature=UNFITTED_TEMPERATURE, notes=mean.notes
    )
    return scored(rows, mean.logits, mean.probability, operating=point, subject=mean, bins=knobs.calibration_bins)


def recorded(evaluation: "Evaluation", record: "EnsembleRecord") -> "Evaluation":
    """The evaluation, whose operating point and predictions say whose mean it is."""
    from dataclasses import replace

    from stages.contracts.ensembles import KEY

    about = {KEY: record.model_dump(mode="json")}
    return replace(
        evaluation, operating=evaluation.operating | about, metadata=evaluation.metadata | {"members": record.averaged}
    )


if __name__ == "__main__":
    enter("evaluate.ensemble", work, argument="ensemble")
