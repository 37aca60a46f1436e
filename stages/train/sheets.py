"""The picture sheets of train: `python -m stages.train.sheets`, what augmentation makes of training images.

One sheet for each augmentation by itself, and one for each recipe that augments: a few training images of each source,
as the model sees them without and as the first steps would show them. Made by the functions that training uses.
"""

from pathlib import Path

from stages.contracts.door import enter
from stages.contracts.sections import Params, Profile, Protocol, section

FOLDER = Path("reports/augment")


def work(params: Params) -> str:
    """Draw all sheets from the training part of the first protocol's index."""
    from stages.contracts.files import appearing
    from stages.contracts.index import index_path, read_index
    from stages.contracts.pixels import open_pixels
    from stages.train.params import Recipe, TrainProfile, within_budget
    from stages.train.shown import augments, each_augmentation, sheet_of

    chosen = section(params, "profile", Profile)
    profile = section(params, f"profiles.{chosen}.train", TrainProfile)
    protocol = section(params, "protocols", list[Protocol])[0]
    recipes = section(params, "recipes", dict[str, Recipe])
    rows, metadata = read_index(index_path(protocol), int(protocol in ("published", "kfold")))
    rows = rows[rows["split"] == "train"]
    sources = sorted(rows["source"].unique())
    stores = {source: open_pixels(Path("data/pixels") / f"{source}.npy") for source in sources}
    wanted = each_augmentation(sources, protocol)
    for name, recipe in recipes.items():
        if augments(recipe):
            wanted[f"recipe {name}"] = within_budget(recipe, chosen, profile)
    drawn = []
    with appearing(FOLDER) as folder:
        folder.mkdir()
        for name, recipe in wanted.items():
            sheet = sheet_of(name, recipe, rows, stores, metadata["data"])
            if sheet is not None:
                sheet.save(folder / f"{name.replace(' ', '-')}.png")
                drawn.append(name)
    left = [name for name in wanted if name not in drawn]
    return f"{len(drawn)} sheets in {FOLDER}" + (f"; no training image for {', '.join(left)}" if left else "")


if __name__ == "__main__":
    enter("train.sheets", work)
