"""The door of a search: `python -m stages.train.tune RECIPE`.

Started more than once with the same `tune_dir` (or STROMA_TUNE), on machines of one file system or beside one another,
the processes share the trials until all are done, and each writes the same outputs.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.contracts.door import enter
from stages.contracts.errors import StageError
from stages.contracts.sections import Params, Profile, params_root, section

if TYPE_CHECKING:
    from stages.train.tune.search import Sought

STUDIES = Path(".stroma/tune")


def work(params: Params, name: str) -> str:
    """Search the values of the recipe `name`; write the recipe with the best ones in it, all trials, and figures."""
    from stages.train.params import Recipe, TrainProfile
    from stages.train.ready import ready_for
    from stages.train.tune.params import Search, TuneProfile, search_faults, thinned, trial_recipe, within_means
    from stages.train.tune.reports import write_reports

    profile = section(params, "profile", Profile)
    common = section(params, f"profiles.{profile}.train", TrainProfile)
    search = section(params, f"tune.{name}", Search)
    tune = within_means(search, profile, section(params, f"profiles.{profile}.tune", TuneProfile))
    section(params, f"recipes.{name}", Recipe)
    faults = list(search_faults({**params, "tune": {name: params["tune"][name]}}))
    if faults:
        raise StageError("\n".join(faults))

    def make(point: dict[str, Any]) -> Recipe:
        merged = {"recipes": {name: {**params["recipes"][name], **point}}}
        return trial_recipe(section(merged, f"recipes.{name}", Recipe), search, profile, common, tune)

    report = {"recipes": {name: dict(params["recipes"][name])}, "profile": profile, "select": search.select}
    ready = ready_for(params, name, make({}))
    if isinstance(ready, str):
        write_reports({**report, "not_run": ready, "rounds": []}, [], name)
        return f"not run: {ready}"

    from filelock import FileLock

    from stages.train.tune.search import as_json, run_search
    from stages.train.tune.study import forget

    named = section(params, "tune_dir", Path | None) or os.environ.get("STROMA_TUNE")
    folder = (params_root(os.environ) / named if named else STUDIES) / name
    rounds = [thinned(one, tune) for one in search.rounds]
    done = run_search(rounds, search, make, ready, folder=folder, say=lambda said: print(f"{name}: {said}", flush=True))
    for sought in done:
        report["recipes"][name] |= sought.best.point
    with FileLock(folder / "write.lock"):
        write_reports({**report, "not_run": None, "rounds": [as_json(one) for one in done]}, done, name)
        if not named:
            forget(folder)
    return closing(done)


def closing(done: "list[Sought]") -> str:
    """The sentence that says what was tried and chosen."""
    states = [trial.state for sought in done for trial in sought.trials]
    chosen = {key: value for sought in done for key, value in sought.best.point.items()}
    given_up = [f"{states.count(state)} {state}" for state in ("pruned", "diverged") if state in states]
    counted = f"{len(states)} trials" + (f" ({', '.join(given_up)})" if given_up else "")
    return f"{counted}; chosen: {', '.join(f'{key} {value}' for key, value in chosen.items())}"


if __name__ == "__main__":
    enter("train.tune", work, argument="recipe")
