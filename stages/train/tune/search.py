"""A search: its rounds one after the other, each a study of trials that are trained as recipes are."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import timm
import torch
from optuna.trial import FrozenTrial, Trial, TrialState

from stages.contracts.errors import StageError
from stages.contracts.files import remove, sha256_of
from stages.train.checkpoint import fingerprint
from stages.train.devices import fabric_of, one_device
from stages.train.fit import Curves, DivergenceError
from stages.train.params import Recipe, Select
from stages.train.ready import PIXELS, Ready
from stages.train.training import CODE, rounded, take_start, train_recipe
from stages.train.tune.params import Axis, Point, Round, Search
from stages.train.tune.study import Study, place_of

CODE_OF_SEARCH = (*CODE, Path(__file__).parent)
LOOK_AGAIN_S = 0.5
"""While other processes finish the last trials of a round."""

Make = Callable[[Point], Recipe]
"""The recipe as a trial trains it, from values in place of the recipe's own."""
Say = Callable[[str], None]


@dataclass(frozen=True)
class Tried:
    """A finished trial."""

    point: Point
    value: float | None
    """The figure by which trials are compared, of the best epoch; of a pruned trial, of its last; None if diverged."""
    state: str
    """complete, pruned, or diverged: its loss was no longer a number."""
    epochs: int


@dataclass(frozen=True)
class Sought:
    """A round that is done."""

    round: Round
    """Thinned to the profile."""
    trials: list[Tried]
    best: Tried
    image_size: int
    epochs: int


def run_search(
    rounds: list[Round], search: Search, make: Make, ready: Ready, *, folder: Path, say: Say
) -> list[Sought]:
    """Run the rounds, thinned to a profile. Each begins with what those before it have chosen.

    folder: of the studies; whoever else searches the same there takes part. say: is told of each trial.
    """
    chosen: Point = {}
    done: list[Sought] = []
    for number, one in enumerate(rounds, start=1):
        so_far = partial(_with, make, chosen)
        name = f"{number}-{_fingerprint(so_far({}), one, search, ready)}"
        study = Study(folder / name, one, search.select, search.seed)
        with study.joined():
            found = _run_round(study, so_far, search.select, ready, partial(_told, say, number, len(rounds)))
        recipe = so_far(found.best.point)
        done.append(replace(found, image_size=recipe.image_size, epochs=recipe.epochs))
        chosen = {**chosen, **found.best.point}
    return done


def _with(make: Make, chosen: Point, point: Point) -> Recipe:
    return make({**chosen, **point})


def _told(say: Say, number: int, rounds: int, said: str) -> None:
    say(f"round {number} of {rounds}, {said}" if rounds > 1 else said)


def _fingerprint(recipe: Recipe, one: Round, search: Search, ready: Ready) -> str:
    """Names all that decides the result of a round: change one of these and its study is another."""
    files = sorted(file for path in CODE_OF_SEARCH for file in (path.glob("*.py") if path.is_dir() else [path]))
    return fingerprint(
        {
            "recipe": recipe.model_dump(mode="json"),
            "round": one.model_dump(mode="json"),
            "select": search.select,
            "seed": search.seed,
            "index": ready.around.index_sha256,
            "pixels": {source: sha256_of(PIXELS / f"{source}.npy") for source in ready.stores},
            "start": take_start(recipe, ready.around).start.model_dump(),
            "threads": ready.around.threads,
            "device": "cuda" if torch.cuda.is_available() else "cpu",
            "code": [sha256_of(file) for file in files],
            "versions": [torch.__version__, timm.__version__, optuna.__version__],
        }
    )


def _run_round(study: Study, make: Make, select: Select, ready: Ready, say: Say) -> Sought:
    """Take trials until none is left, and wait for those of others."""
    there = len(study.finished())
    if there:
        say(f"{there} of {study.total} trials are done already")
    waits = False
    while len(study.finished()) < study.total:
        trial = study.take()
        if trial is not None:
            _run_trial(study, trial, make(study.point(trial)), select=select, ready=ready, say=say)
        else:
            if not waits:
                say("waiting for trials of other processes")
            waits = True
            time.sleep(LOOK_AGAIN_S)
    trials = study.finished()
    best = _best(trials, minimise=study.minimise)
    tried = [_tried(trial, study) for trial in trials]
    return Sought(study.round, tried, tried[place_of(best)], image_size=0, epochs=0)


def _run_trial(study: Study, trial: Trial, recipe: Recipe, *, select: Select, ready: Ready, say: Say) -> None:
    """Train a trial to its end, or until it is pruned or diverges; file what it came to."""
    place = place_of(trial)
    around = replace(ready.around, checkpoints=study.checkpoints(place))
    watch = _Watch(trial, select, recipe.epochs, prunes=study.round.prune)
    try:
        fabric = fabric_of(one_device(ready.profile), recipe.precision)
        trained = train_recipe(recipe, ready.rows, ready.stores, around, fabric, watch=watch)
        value = trained.record.best[select]
        if value is None:
            raise StageError(f"val has no {select}: it holds one class alone; set `select` of the search to val_loss")
        study.complete(trial, value)
        came = f"{select} {value:.4g}"
    except optuna.TrialPruned:
        study.prune(trial)
        came = f"pruned after epoch {watch.reported} of {recipe.epochs}"
    except DivergenceError as error:
        study.prune(trial, diverged=str(error))
        came = f"given up, {error}"
    remove(around.checkpoints)
    at = ", ".join(f"{name} {value}" for name, value in study.point(trial).items())
    say(f"trial {place + 1} of {study.total}: {at}: {came}")


class _Watch:
    """Tells the study of each epoch, and ends the training where the study says so."""

    def __init__(self, trial: Trial, select: Select, epochs: int, *, prunes: bool) -> None:
        self.trial, self.select, self.epochs, self.prunes = trial, select, epochs, prunes
        self.reported = 0

    def __call__(self, curves: Curves) -> None:
        """curves: of all epochs; a training that goes on from a checkpoint begins with those that it has done."""
        for epoch in curves[self.reported :]:
            self.reported += 1
            if epoch[self.select] is not None:
                self.trial.report(epoch[self.select], self.reported)
        # After the last epoch there is nothing to save by it.
        if self.prunes and len(curves) < self.epochs and self.trial.should_prune():
            raise optuna.TrialPruned


def _best(trials: list[FrozenTrial], *, minimise: bool) -> FrozenTrial:
    """The complete trial with the best figure; of equals, the first. Raises StageError where all were given up."""
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    if not complete:
        why = trials[0].user_attrs.get("diverged", "pruned")
        raise StageError(f"all {len(trials)} trials were given up ({why}); search lower values of lr")
    return min(complete, key=lambda trial: trial.value if minimise else -trial.value)


def _tried(trial: FrozenTrial, study: Study) -> Tried:
    value = None if trial.value is None else rounded(trial.value)
    if "diverged" in trial.user_attrs:
        return Tried(study.point(trial), None, "diverged", len(trial.intermediate_values))
    state = "complete" if trial.state == TrialState.COMPLETE else "pruned"
    return Tried(study.point(trial), value, state, len(trial.intermediate_values))


def as_json(sought: Sought) -> dict[str, Any]:
    """A round as the report of a search holds it."""
    states = [trial.state for trial in sought.trials]
    return {
        "sampler": sought.round.sampler,
        "space": {name: axis.values or _range(axis) for name, axis in sought.round.space.items()},
        "trials": len(states),
        **{state: states.count(state) for state in ("complete", "pruned", "diverged")},
        "epochs": sought.epochs,
        "image_size": sought.image_size,
        "chosen": sought.best.point,
        "value": sought.best.value,
    }


def _range(axis: Axis) -> dict[str, float | bool]:
    return {"low": axis.low, "high": axis.high, "log": axis.log}
