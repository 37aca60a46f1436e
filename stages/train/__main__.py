"""The door of train: `python -m stages.train RECIPE`."""

from functools import partial

from stages.contracts.door import enter
from stages.contracts.sections import Params, Profile, section


def work(params: Params, name: str) -> str:
    """Train the recipe `name`, or say why it cannot be; write its model folder and its curves."""
    from stages.contracts.modelfolder import Skipped, model_folder, write_skipped
    from stages.train.curves import curves_path, write_curves
    from stages.train.params import TrainProfile, within_budget
    from stages.train.ready import ready_for, recipe_of

    chosen = section(params, "profile", Profile)
    profile = section(params, f"profiles.{chosen}.train", TrainProfile)
    recipe = within_budget(recipe_of(params, name), chosen, profile)
    ready = ready_for(params, name, recipe)
    if isinstance(ready, str):
        write_skipped(Skipped(recipe=name, reason=ready, settings=recipe.model_dump(mode="json")), model_folder(name))
        write_curves([], curves_path(name))
        return f"not run: {ready}"

    from stages.train.devices import fabric_of, launched
    from stages.train.written import train_and_write

    done = partial(train_and_write, recipe=recipe, rows=ready.rows, around=ready.around)
    return launched(fabric_of(profile, recipe.precision), done)


if __name__ == "__main__":
    enter("train", work, argument="recipe")
