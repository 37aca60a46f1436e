"""`python -m stages.evaluate.drift BATCH`: is a new batch like what the models were trained on?

BATCH is a folder in which `python -m stages.download` and `python -m stages.merge` were run on the new archives. Exits
with 0 whatever the verdict is; .stroma/drift.json holds it.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from stages.contracts.door import enter
from stages.contracts.errors import StageError
from stages.contracts.sections import Params, section
from stages.evaluate.params import DriftParams, EvaluateParams

if TYPE_CHECKING:
    import pandas as pd

REPORT = Path(".stroma/drift.json")

IDENTITY = ["image_id", "sha256"]
"""By what an image is known to have been ingested already."""


def work(params: Params, batch: str) -> str:
    """Hold a batch against the training index, source by source; say what came of each."""
    from stages.contracts.files import write_json
    from stages.contracts.index import index_path, read_index
    from stages.contracts.tables import read_table
    from stages.evaluate.appearance import appearance
    from stages.evaluate.outlook import overall, readable, source_outlook, table, thinned
    from stages.evaluate.reference import judge
    from stages.evaluate.shift import Population

    knobs, batch_size = section(params, "drift", DriftParams), section(params, "evaluate", EvaluateParams).batch_size
    data = Path(batch) / "data"
    if not (data / "manifest.parquet").is_file():
        raise StageError(f"{data}/manifest.parquet is missing; run `python -m stages.download` and `.merge` in {batch}")
    by = judge(knobs.recipe)
    index, metadata = read_index(index_path(by.record.protocol), by.record.fold)
    train = index[index["split"] == "train"]
    new = _unknown(read_table(data / "manifest.parquet"), read_table(Path("data/manifest.parquet"), IDENTITY))
    sources = {}
    for source, rows in new.groupby("source", sort=True):
        images, reference = thinned(readable(rows)), thinned(train[train["source"] == source])
        populations = [Population(appearance(reference), reference["case_id"], appearance(images))]
        if source in by.record.sources and len(readable(rows)) >= knobs.least_images:
            output = by.output(images, str(source), data / "pixels" / f"{source}.npy", batch_size)
            known = thinned(by.predictions[by.predictions["source"] == source])
            populations.append(Population(by.decided(known, str(source)), known["case_id"], output))
        sources[str(source)] = source_outlook(rows, populations, knobs)
    report = {"data": metadata["data"], "model": by.name, "verdict": overall(sources), "sources": sources}
    write_json(report, REPORT)
    print(table(report))
    each = [f"{source}: {found['verdict']}" for source, found in sources.items()]
    return f"{report['verdict']} ({', '.join(each) or 'no new image'})"


def _unknown(batch: "pd.DataFrame", known: "pd.DataFrame") -> "pd.DataFrame":
    """Rows of the batch that the workspace has not ingested yet: archives grow, and old images would hide new ones."""
    both = batch.merge(known.drop_duplicates(), on=IDENTITY, how="left", indicator="found")
    return batch[(both["found"] == "left_only").to_numpy()].reset_index(drop=True)


if __name__ == "__main__":
    enter("evaluate.drift", work, argument="batch")
