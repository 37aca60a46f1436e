"""A round's trials in an Optuna journal that several processes may share.

A round has a fixed number of places, one a trial: a point of a grid, or a turn of TPE. Whoever is free takes the first
place that no trial holds, under a lock. What TPE draws there depends on the seed, on the place, and on the trials that
are finished; so one process ends with the same trials however often it is killed, and raw numbers of trials mean
nothing. A trial left running by a dead process is marked as failed, which frees its place: each process holds a lock
for as long as it lives.
"""

import shutil
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, PartialFixedSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from stages.train.tune.params import Axis, Point, Round, grid_points

PLACE, WORKER = "place", "worker"
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
MOST_STARTUP = 10
"""Trials at random before TPE and the pruner begin; a third of all where that is less."""
FIRST_PRUNED_EPOCH = 2


class JournalLock:
    """In place of Optuna's, which a dead process leaves behind. It also cuts off a line that one was writing."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self._lock = FileLock(journal.with_suffix(".lock"))

    def acquire(self) -> bool:
        """Take the lock and mend the journal's end."""
        self._lock.acquire()
        if self.journal.exists():
            text = self.journal.read_bytes()
            if not text.endswith(b"\n"):
                with self.journal.open("r+b") as file:
                    file.truncate(text.rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Give the lock back."""
        self._lock.release()


class Study:
    """The trials of one round, thinned to a profile."""

    def __init__(self, folder: Path, one: Round, select: str, seed: int) -> None:
        """folder: of this study, shared by all who take part. select: the figure by which trials are compared."""
        self.folder, self.round, self.seed = folder, one, seed
        self.grid = grid_points(one) if one.sampler == "grid" else None
        self.total = len(self.grid) if self.grid is not None else one.trials
        self.startup = min(MOST_STARTUP, -(-self.total // 3))
        self.minimise = select == "val_loss"
        self.axes = {name: _distribution(axis) for name, axis in one.space.items()}
        self._worker = uuid.uuid4().hex
        self._study: optuna.Study | None = None

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Take part, inside the block."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
        alive = self.folder / "workers" / self._worker
        with FileLock(alive):
            journal = self.folder / "journal.log"
            storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=JournalLock(journal)))
            with self._gate():
                self._study = optuna.create_study(
                    study_name=self.folder.name,
                    storage=storage,
                    direction="minimize" if self.minimise else "maximize",
                    pruner=optuna.pruners.MedianPruner(self.startup, n_warmup_steps=FIRST_PRUNED_EPOCH),
                    load_if_exists=True,
                )
            yield
            alive.unlink()

    def take(self) -> Trial | None:
        """A trial for the first place that is free; None where all are held by trials finished or running."""
        with self._gate():
            self._bury()
            trials = self._study.get_trials(deepcopy=False, states=(*FINISHED, TrialState.RUNNING))
            held = {place_of(trial) for trial in trials}
            place = next((place for place in range(self.total) if place not in held), None)
            if place is None:
                return None
            self._study.sampler = self._sampler(place)
            trial = self._study.ask(self.axes)
            trial.set_user_attr(PLACE, place)
            trial.set_user_attr(WORKER, self._worker)
            return trial

    def finished(self) -> list[FrozenTrial]:
        """The trials that are complete or pruned, by their place."""
        return sorted(self._study.get_trials(deepcopy=False, states=FINISHED), key=place_of)

    def complete(self, trial: Trial, value: float) -> None:
        """File the figure of a trial."""
        self._study.tell(trial, value)

    def prune(self, trial: Trial, diverged: str | None = None) -> None:
        """File a trial that was given up. diverged: why, where its loss was no longer a number."""
        if diverged:
            trial.set_user_attr("diverged", diverged)
        self._study.tell(trial, state=TrialState.PRUNED)

    def checkpoints(self, place: int) -> Path:
        """Where the trial at a place keeps its checkpoint, so that whoever takes it up goes on from there."""
        return self.folder / "checkpoints" / str(place)

    def point(self, trial: Trial | FrozenTrial) -> Point:
        """What a trial tries; of a range, to four significant places: what is shown is what is trained and chosen."""
        drawn = {name: trial.params[name] for name in self.round.space}
        return {
            name: _short(value) if self.round.space[name].low is not None else value for name, value in drawn.items()
        }

    def _gate(self) -> FileLock:
        return FileLock(self.folder / "gate.lock")

    def _bury(self) -> None:
        """Mark as failed what dead processes have left running."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            worker = trial.user_attrs.get(WORKER)
            # Only between the two lines of `take` has a trial no worker, and there its process holds the gate.
            if worker is None or not is_held(self.folder / "workers" / worker):
                self._study.tell(trial.number, state=TrialState.FAIL)

    def _sampler(self, place: int) -> BaseSampler:
        if self.grid is not None:
            return PartialFixedSampler(self.grid[place], RandomSampler(seed=self.seed))
        seed = int(np.random.SeedSequence([self.seed, place]).generate_state(1)[0])
        return TPESampler(n_startup_trials=self.startup, seed=seed)


def forget(folder: Path) -> None:
    """Delete the studies in a folder, but for those in which another process takes part."""
    for study in folder.iterdir():
        if study.is_dir() and not any(is_held(worker) for worker in (study / "workers").glob("*")):
            shutil.rmtree(study)


def is_held(path: Path) -> bool:
    """Whether a living process holds the lock on this file; the kernel gives back those of the dead."""
    if not path.exists():
        return False
    try:
        with FileLock(path, blocking=False):
            return False
    except Timeout:
        return True


def place_of(trial: Trial | FrozenTrial) -> int:
    """The place that a trial holds in its round."""
    return trial.user_attrs[PLACE]


def _distribution(axis: Axis) -> BaseDistribution:
    if axis.values is not None:
        return CategoricalDistribution(axis.values)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def _short(value: float) -> float:
    return float(f"{value:.4g}")
