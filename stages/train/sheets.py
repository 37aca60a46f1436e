"""The picture sheets of train: `python -m stages.train.sheets`, what augmentation makes of training images.

One sheet for each augmentation by itself, and one for several at once: a few training images of each source, as the
model sees them without and as the first steps would show them. Made by the functions that training uses, but not of the
recipes: an edit of one is to rerun that recipe alone.
"""

from pathlib import Path

from stages.contracts.door import enter
from stages.contracts.sections import Params, Protocol, section

FOLDER = Path("reports/augment")


def work(params: Params) -> str:
    """Draw all sheets from the training part of the first protocol's index."""
    from stages.contracts.files import appearing
    from stages.contracts.index import index_path, read_index
    from stages.contracts.pixels import open_pixels
    from stages.train.shown import each_augmentation, sheet_of

    protocol = section(params, "protocols", list[Protocol])[0]
    rows, metadata = read_index(index_path(protocol), int(protocol in ("published", "kfold")))
    rows = rows[rows["split"] == "train"]
    sources = sorted(rows["source"].unique())
    stores = {source: open_pixels(Path("data/pixels") / f"{source}.npy") for source in sources}
    wanted = each_augmentation(sources, protocol)
    with appearing(FOLDER) as folder:
        folder.mkdir()
        for name, recipe in wanted.items():
            sheet_of(name, recipe, rows, stores, metadata["data"]).save(folder / f"{name}.png")
    return f"{len(wanted)} sheets in {FOLDER}"


if __name__ == "__main__":
    enter("train.sheets", work)
