"""The training loop: epochs of steps, a look at val after each, the best epoch's weights kept.

Nothing in it depends on a state of random generators: batches, augmentation and dropout of a step are drawn from
(seed, epoch, step). So a checkpoint is weights, optimizer and a few numbers, and a training that was killed goes on to
the same bytes.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import isfinite

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from stages.contracts.errors import StageError
from stages.contracts.progress import Progress
from stages.train.batches import Batches
from stages.train.checkpoint import Checkpoint
from stages.train.choices import Phase
from stages.train.devices import share
from stages.train.figures import figures
from stages.train.freeze import train_mode
from stages.train.front import VAL_BATCH, Front
from stages.train.losses import loss_of
from stages.train.moments import moment
from stages.train.optimize import learning_rate
from stages.train.params import Recipe, stretches
from stages.train.prefix import cut
from stages.train.sampling import chances, class_weights, epoch_batches, generator, steps_per_epoch
from stages.train.session import Session, State
from stages.train.step import SMALLEST, Step, in_memory
from stages.train.weights import StartModel, reestimate_batchnorm

CHECKPOINT_EVERY_S = 60.0
BATCHNORM_IMAGES = 2048
"""Enough for means over a few hundred thousand places of every map; a second or two."""
SHOW_LOSS_EVERY = 10
"""Steps; reading the loss makes a GPU wait."""


Curves = list[dict[str, float | None]]
"""What each epoch that is done came to, the first one first."""


class DivergenceError(StageError):
    """The loss is no longer a number."""


@dataclass(frozen=True)
class Fitted:
    """A finished training."""

    weights: dict[str, torch.Tensor]
    """Of the best epoch."""
    state: State
    images_per_s: float
    """Training images over the time of this run, validation included; what was resumed does not count."""
    said: list[str]
    """What became of the features of frozen parts, for the log: it changes the time, not the result."""


def fit(
    fabric: Fabric, start: StartModel, recipe: Recipe, checkpoint: Checkpoint | None, *, train: Batches, val: Batches,
    features_gb: float, watch: Callable[[Curves], None] | None = None,
) -> Fitted:  # fmt: skip
    """Train from `start` on `train` as `recipe` says, choosing the epoch on `val`.

    checkpoint: taken up if it holds one, replaced every minute and after every epoch; None for all processes but the
    first. features_gb: most memory for features of frozen parts. watch: called after each epoch, and with those that a
    checkpoint holds; what it raises ends the training. Raises DivergenceError where the loss is no longer a number,
    StageError where a step has too few images for the devices.
    """
    corpus = train.corpus
    check_shares(fabric, recipe, len(corpus))
    chance = chances(corpus.source, corpus.target, corpus.case, recipe.sampler)
    weight = class_weights(chance, corpus.target, start.model.num_classes)
    weight = weight if recipe.class_weights else np.ones_like(weight)
    step = Step(loss_of(recipe, torch.from_numpy(weight).to(fabric.device)), weight)
    phases = stretches(recipe)
    session = Session(fabric, start.model, recipe, checkpoint)
    session.resume(phases)
    state = session.state
    if not start.trust_batchnorm and (state.epoch, state.step) == (0, 0):
        reestimate_batchnorm(start.model, lambda: _show_tissue(session.model, train, recipe))
    session.average_from_here()
    if watch and state.curves:
        watch(state.curves)

    said: list[str] = []
    front: Front | None = None
    epochs = sum(phase.epochs for phase in phases[state.phase :]) - state.phase_epoch
    started = time.monotonic()
    with Progress(recipe.arch, epochs * len(corpus) - state.shown, "images") as progress:
        while state.phase < len(phases):
            phase = phases[state.phase]
            session.enter(phase)
            if front is None:
                front = _front(session, phase, train, val, features_gb)
                said += [front.said] if front.said else []
            epoch = _train_epoch(session, front, step, phase, chance=chance, progress=progress)
            with session.averaged():
                logits = front.predict(fabric, session.model, start.model.num_classes)
                found = figures(logits, val.corpus.target, val.corpus.source, weight)
                session.note(epoch, found)
            if watch:
                watch(state.curves)
            if state.phase_epoch == phase.epochs or (recipe.patience and state.waited >= recipe.patience):
                session.leave()
                front = None
            session.save()
    return Fitted(session.best_weights, state, progress.done / max(time.monotonic() - started, 1e-9), said)


def check_shares(fabric: Fabric, recipe: Recipe, images: int) -> None:
    """Each device gets a micro-batch of every step."""
    size, devices = min(recipe.batch_size, images), fabric.world_size
    if devices > 1 and size // (devices * recipe.accumulate) < SMALLEST:
        raise StageError(
            f"a step of {size} images leaves less than {SMALLEST} of them for each of {devices} devices"
            f"{f' in {recipe.accumulate} micro-batches' if recipe.accumulate > 1 else ''}: "
            "raise the recipe's batch_size, or lower devices"
        )


def _front(session: Session, phase: Phase, train: Batches, val: Batches, features_gb: float) -> Front:
    """Cut off what the phase freezes before all that it trains, and keep its features where they fit."""
    recipe, state, count = session.recipe, session.state, len(train.corpus)
    largest = -(-count // (steps_per_epoch(count, recipe.batch_size) * session.fabric.world_size))
    prefix = None
    if phase.freeze != 0 and not recipe.compile:
        train_mode(session.module)
        some = np.arange(-(-largest // state.parts))
        prefix = cut(session.fabric, session.module, session.model, train(some)[0])
    front = Front(train, val, prefix, largest, state.parts)
    front.keep_features(recipe, phase.epochs - state.phase_epoch, features_gb)
    return front


def _train_epoch(
    session: Session, front: Front, step: Step, phase: Phase, *, chance: np.ndarray, progress: Progress
) -> dict[str, float | None]:
    """Do the steps of the present epoch that are still to be done; its mean loss, accuracy and last learning rate."""
    state, recipe = session.state, session.recipe
    batches = epoch_batches(chance, recipe.sampler, recipe.batch_size, generator(recipe.seed, state.epoch, -1))
    moments = [moment(recipe, state.epoch, number, len(batch)) for number, batch in enumerate(batches)]
    mine = [
        share(session.fabric, len(batch), paired=at.mixing is not None)
        for batch, at in zip(batches, moments, strict=True)
    ]
    due = slice(state.step, None)
    front.prepare(
        [batch[places] for batch, places in zip(batches[due], mine[due], strict=True)],
        [at.draws.view[places] for at, places in zip(moments[due], mine[due], strict=True)],
    )
    sums = torch.tensor([state.loss_sum, state.hits], dtype=torch.float64, device=session.fabric.device)
    saved = time.monotonic()
    train_mode(session.module)
    while state.step < len(batches):
        positions = batches[state.step]
        for group in session.optimizer.param_groups:
            group["lr"] = learning_rate(phase, state.phase_epoch, state.step, len(batches))

        attempt = partial(step.take, session, front, positions, moments[state.step])
        found, state.parts = in_memory(attempt, state.parts, len(positions) // session.fabric.world_size)
        session.moved()

        sums += found * len(positions)
        state.step, state.shown = state.step + 1, state.shown + len(positions)
        if state.step % SHOW_LOSS_EVERY == 0:
            progress.note = f"epoch {state.epoch + 1}, loss {float(sums[0]) / state.shown:.3f}"
        progress.add(len(positions))
        if time.monotonic() - saved > CHECKPOINT_EVERY_S:
            state.loss_sum, state.hits = sums.tolist()
            session.save()
            saved = time.monotonic()
    loss, accuracy = (sums / state.shown).tolist()
    if not isfinite(loss):
        raise DivergenceError(f"the loss is {loss} in epoch {state.epoch + 1}: lower the recipe's lr")
    return {
        "train_loss": loss,
        # A mixed image has no one class to recognise.
        "train_accuracy": None if recipe.mixup or recipe.cutmix else accuracy,
        "learning_rate": learning_rate(phase, state.phase_epoch, len(batches) - 1, len(batches)),
    }


def _show_tissue(model: nn.Module, train: Batches, recipe: Recipe) -> None:
    """Run the model over some training images as they are, an even choice of all."""
    count = len(train.corpus)
    chosen = generator(recipe.seed, 0, -1).permutation(count)[:BATCHNORM_IMAGES]
    for batch in np.array_split(chosen, max(1, len(chosen) // VAL_BATCH)):
        model(train(batch)[0])
