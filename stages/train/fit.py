"""The training loop: epochs of batches, a look at val after each, the best epoch's weights kept.

Nothing in it depends on a state of random generators: batches, augmentation and dropout of a step are drawn from
(seed, epoch, step). So a checkpoint is weights, optimizer and a few numbers, and a training that was killed goes on to
the same bytes.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from math import cos, isfinite, pi

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.nn.functional import cross_entropy

from stages.contracts.errors import StageError
from stages.contracts.progress import Progress
from stages.train.batches import Batches
from stages.train.checkpoint import Checkpoint
from stages.train.figures import figures
from stages.train.params import Recipe
from stages.train.sampling import chances, class_weights, epoch_batches, generator
from stages.train.weights import StartModel, reestimate_batchnorm

CHECKPOINT_EVERY_S = 60.0
VAL_BATCH = 256
BATCHNORM_IMAGES = 2048
"""Enough for means over a few hundred thousand places of every map; a second or two."""
SHOW_LOSS_EVERY = 10
"""Steps; reading the loss makes a GPU wait."""


@dataclass
class State:
    """Where a training stands; all JSON values, so that it goes into a checkpoint as it is."""

    epoch: int = 0
    step: int = 0
    """Steps of this epoch that are done."""
    loss_sum: float = 0.0
    """Of the images that this epoch has shown so far."""
    shown: int = 0
    best_epoch: int = 0
    """1-based; 0 before the first."""
    best: dict[str, float | None] = field(default_factory=dict)
    curves: list[dict[str, float | None]] = field(default_factory=list)


@dataclass(frozen=True)
class Fitted:
    """A finished training."""

    weights: dict[str, torch.Tensor]
    """Of the best epoch."""
    state: State
    images_per_s: float
    """Training images over the time of this run, validation included; what was resumed does not count."""


@dataclass
class Session:
    """A training under way: all that a checkpoint holds, and the optimizer's hands."""

    fabric: Fabric
    module: nn.Module
    """The network itself."""
    model: nn.Module
    """The network as Fabric runs it."""
    optimizer: torch.optim.Optimizer
    checkpoint: Checkpoint
    state: State = field(default_factory=State)
    best_weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def save(self) -> None:
        """Replace the checkpoint by where the training stands."""
        tensors = {f"model/{name}": value for name, value in self.module.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in self.best_weights.items()}
        # Numbered in the order of the groups' parameters.
        for number, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer/{number}/{name}": value for name, value in moments.items() if value is not None}
        precision = self.fabric.strategy.precision.state_dict()
        self.checkpoint.save(tensors, {"state": asdict(self.state), "precision": precision})

    def resume(self) -> None:
        """Go to where the checkpoint stands, if there is one."""
        held = self.checkpoint.load()
        if held is None:
            return
        tensors, saved = held
        self.module.load_state_dict(_under(tensors, "model/"))
        parameters = [one for group in self.optimizer.param_groups for one in group["params"]]
        moments: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in _under(tensors, "optimizer/").items():
            number, _, name = key.partition("/")
            parameter = parameters[int(number)]
            # The fused optimizers walk memory, not axes: a moment must lie there exactly as its weight does.
            laid = torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
            moments.setdefault(int(number), {})[name] = laid
        self.optimizer.load_state_dict({"state": moments, "param_groups": self.optimizer.state_dict()["param_groups"]})
        self.fabric.strategy.precision.load_state_dict(saved["precision"])
        self.state, self.best_weights = State(**saved["state"]), _under(tensors, "best/")


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def fit(
    fabric: Fabric, start: StartModel, recipe: Recipe, checkpoint: Checkpoint, *, train: Batches, val: Batches
) -> Fitted:
    """Train from `start` on `train` as `recipe` says, choosing the epoch on `val`.

    checkpoint: taken up if it holds one, replaced every minute and after every epoch. Raises StageError where the loss
    is no longer a number.
    """
    corpus = train.corpus
    chance = chances(corpus.source, corpus.target, corpus.case, recipe.sampler)
    weight = class_weights(chance, corpus.target, start.model.num_classes)
    weight = weight if recipe.class_weights else np.ones_like(weight)
    module = start.model.to(memory_format=torch.channels_last)
    model, optimizer = fabric.setup(module, make_optimizer(module, recipe))
    session = Session(fabric, module, model, optimizer, checkpoint)
    session.resume()
    state = session.state
    if not start.trust_batchnorm and (state.epoch, state.step) == (0, 0):
        reestimate_batchnorm(module, lambda: _show_tissue(model, train, recipe))

    left = recipe.epochs * len(corpus) - state.epoch * len(corpus) - state.shown
    started = time.monotonic()
    with Progress(recipe.arch, left, "images") as progress:
        while state.epoch < recipe.epochs:
            train_loss, rate = _train_epoch(session, train, recipe, progress, chance=chance, weight=weight)
            found = figures(predict(model, val), val.corpus.target, val.corpus.source, weight)
            state.epoch, state.step, state.loss_sum, state.shown = state.epoch + 1, 0, 0.0, 0
            state.curves.append({"epoch": state.epoch, "train_loss": train_loss, **found, "learning_rate": rate})
            if not state.best or better(found, state.best, recipe.select):
                state.best_epoch, state.best = state.epoch, found
                session.best_weights = {name: value.cpu().clone() for name, value in module.state_dict().items()}
            session.save()
    return Fitted(session.best_weights, state, left / max(time.monotonic() - started, 1e-9))


def _train_epoch(
    session: Session, train: Batches, recipe: Recipe, progress: Progress, *, chance: np.ndarray, weight: np.ndarray
) -> tuple[float, float]:
    """Do the steps of the present epoch that are still to be done; its mean loss, and its last learning rate."""
    state, model, optimizer, device = session.state, session.model, session.optimizer, session.fabric.device
    batches = epoch_batches(chance, recipe.sampler, recipe.batch_size, generator(recipe.seed, state.epoch, -1))
    weights = torch.from_numpy(weight).to(device)
    loss_sum = torch.tensor(state.loss_sum, dtype=torch.float64, device=device)
    saved = time.monotonic()
    model.train()
    while state.step < len(batches):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, state.epoch, state.step, len(batches))
        draws = generator(recipe.seed, state.epoch, state.step)
        torch.manual_seed(int(draws.integers(2**63)))  # dropout and the like
        images, targets = train(batches[state.step], draws)
        loss = cross_entropy(model(images), targets, weight=weights)
        optimizer.zero_grad()
        session.fabric.backward(loss)
        optimizer.step()

        loss_sum += loss.detach().double() * len(targets)
        state.step, state.shown = state.step + 1, state.shown + len(targets)
        if state.step % SHOW_LOSS_EVERY == 0:
            progress.note = f"epoch {state.epoch + 1}, loss {float(loss_sum) / state.shown:.3f}"
        progress.add(len(targets))
        if time.monotonic() - saved > CHECKPOINT_EVERY_S:
            state.loss_sum = float(loss_sum)
            session.save()
            saved = time.monotonic()
    train_loss = float(loss_sum) / state.shown
    if not isfinite(train_loss):
        raise StageError(f"the loss is {train_loss} in epoch {state.epoch + 1}: lower the recipe's lr")
    return train_loss, learning_rate(recipe, state.epoch, len(batches) - 1, len(batches))


def better(found: dict[str, float | None], best: dict[str, float | None], select: str) -> bool:
    """Whether an epoch beats the best so far by the figure `select`; by the loss where that figure is not defined."""
    new, old = found[select], best[select]
    if select != "val_loss" and new is not None and old is not None:
        return new > old
    return found["val_loss"] < best["val_loss"]


def predict(model: Callable[[torch.Tensor], torch.Tensor], batches: Batches) -> np.ndarray:
    """Logits of every image of the corpus, in its order: float32 (n, classes). Sets the model to eval mode."""
    model.eval()
    places = np.arange(len(batches.corpus))
    with torch.inference_mode():
        parts = [
            model(batches(places[at : at + VAL_BATCH])[0]).float().cpu() for at in range(0, len(places), VAL_BATCH)
        ]
    return torch.cat(parts).numpy()


def learning_rate(recipe: Recipe, epoch: int, step: int, steps: int) -> float:
    """The rate of one step: a function of where the training stands, so that there is no scheduler to save.

    steps: of an epoch. onecycle is torch's: a cosine from lr / 25 up to lr over the first 30 %, then one down to
    lr / 250,000.
    """
    done = (epoch * steps + step) / max(recipe.epochs * steps - 1, 1)
    match recipe.schedule:
        case "exponential":
            return recipe.lr * recipe.decay**epoch
        case "cosine":
            return recipe.lr * _cosine(1, 0, done)
        case "onecycle" if done < 0.3:
            return recipe.lr * _cosine(1 / 25, 1, done / 0.3)
        case "onecycle":
            return recipe.lr * _cosine(1, 1 / 250_000, (done - 0.3) / 0.7)
        case _:
            return recipe.lr


def _cosine(start: float, end: float, done: float) -> float:
    return end + (start - end) * (1 + cos(pi * done)) / 2


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimizer, fused. Vectors (biases, norms) are not decayed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [one for one in trained if one.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [one for one in trained if one.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    match recipe.optimizer:
        case "adam":
            return torch.optim.Adam(groups, lr=recipe.lr, fused=True)
        case "adamw":
            return torch.optim.AdamW(groups, lr=recipe.lr, fused=True)
        case "sgd":
            return torch.optim.SGD(groups, lr=recipe.lr, momentum=0.9, fused=True)


def _show_tissue(model: Callable[[torch.Tensor], torch.Tensor], train: Batches, recipe: Recipe) -> None:
    """Run the model over some training images as they are, an even choice of all."""
    count = len(train.corpus)
    chosen = generator(recipe.seed, 0, -1).permutation(count)[:BATCHNORM_IMAGES]
    for batch in np.array_split(chosen, max(1, len(chosen) // VAL_BATCH)):
        model(train(batch)[0])
