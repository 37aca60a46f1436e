"""A training under way: all that a checkpoint holds, and the hands that move the weights."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field

import torch
from lightning_fabric import Fabric
from torch import nn

from stages.train.checkpoint import Checkpoint
from stages.train.choices import Phase
from stages.train.devices import handed_round, level_statistics, spread
from stages.train.freeze import counted, freeze, frozen_state
from stages.train.optimize import MovingAverage, make_optimizer
from stages.train.params import Recipe


@dataclass
class State:
    """Where a training stands; all JSON values, so that it goes into a checkpoint as it is."""

    phase: int = 0
    """From 0; the number of phases when all is done."""
    epoch: int = 0
    """Epochs that are done, over all phases."""
    phase_epoch: int = 0
    """Epochs of this phase that are done."""
    step: int = 0
    """Steps of this epoch that are done."""
    loss_sum: float = 0.0
    """Of the images that this epoch has shown so far."""
    hits: float = 0.0
    """Images of them that were recognised."""
    shown: int = 0
    parts: int = 1
    """Micro-batches of a step."""
    waited: int = 0
    """Epochs of this phase since the last that was better than all before."""
    trained: int = 0
    """Most weights that trained at once."""
    best_epoch: int = 0
    """1-based; 0 before the first."""
    best: dict[str, float | None] = field(default_factory=dict)
    curves: list[dict[str, float | None]] = field(default_factory=list)


class Session:
    """One training: the network, its optimizer, its checkpoint, and where it stands. The same on all devices."""

    def __init__(self, fabric: Fabric, module: nn.Module, recipe: Recipe, checkpoint: Checkpoint | None) -> None:
        """checkpoint: None for all processes but the first."""
        self.fabric, self.recipe, self.checkpoint = fabric, recipe, checkpoint
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        self.module = module.to(memory_format=layout)
        self.model: nn.Module = self.module
        """The network as Fabric runs it."""
        self.optimizer: torch.optim.Optimizer | None = None
        """None between two phases."""
        self.average: MovingAverage | None = None
        self.state = State(parts=recipe.accumulate)
        self.best_weights: dict[str, torch.Tensor] = {}
        self._average: tuple[dict[str, torch.Tensor], int] | None = None

    def resume(self, phases: list[Phase]) -> None:
        """Go to where the checkpoint stands, if there is one, and enter the phase that is due there."""
        held = handed_round(self.fabric, self.checkpoint and self.checkpoint.load())
        tensors, saved = held or ({}, {})
        if held:
            self.state = State(**saved["state"])
            self.module.load_state_dict(_under(tensors, "model/"))
            self.best_weights = _under(tensors, "best/")
            if self.recipe.ema:
                self._average = _under(tensors, "average/"), saved["average_steps"]
        spread(self.fabric, self.module)
        if self.state.phase == len(phases):
            return
        self.enter(phases[self.state.phase])
        moments = _under(tensors, "optimizer/")
        if moments:
            self._load_moments(moments)
            self.fabric.strategy.precision.load_state_dict(saved["precision"])

    def enter(self, phase: Phase) -> None:
        """Freeze what the phase freezes and give it an optimizer, unless it is under way."""
        if self.optimizer is not None:
            return
        freeze(self.module, phase.freeze)
        self._settle_average()
        self.state.trained = max(self.state.trained, counted(self.module)[0])
        run = torch.compile(self.module) if self.recipe.compile else self.module
        self.model, self.optimizer = self.fabric.setup(run, make_optimizer(self.module, self.recipe))

    def leave(self) -> None:
        """End the phase: the next has its own optimizer."""
        self.state.phase, self.state.phase_epoch, self.state.waited = self.state.phase + 1, 0, 0
        self.optimizer = None

    def average_from_here(self) -> None:
        """Begin the moving average of the weights, or take up that of the checkpoint, where the recipe wants one."""
        if self.recipe.ema:
            self.average = MovingAverage(self.module, self.recipe.ema)
            if self._average:
                self.average.load(*self._average)
            self._settle_average()

    def _settle_average(self) -> None:
        """Frozen weights are their own average: their features must not drift from one epoch to the next."""
        if self.average:
            self.average.settle(frozen_state(self.module))

    def moved(self) -> None:
        """A step was taken."""
        level_statistics(self.fabric, self.module)
        if self.average:
            self.average.update()

    def averaged(self) -> AbstractContextManager[None]:
        """Inside the block the network has the weights that are validated and kept."""
        return self.average.in_place() if self.average else nullcontext()

    def note(self, epoch: dict[str, float | None], found: dict[str, float | None]) -> None:
        """An epoch is done: note its figures, and keep the weights if they are the best so far."""
        state = self.state
        state.epoch, state.phase_epoch = state.epoch + 1, state.phase_epoch + 1
        state.step, state.loss_sum, state.hits, state.shown = 0, 0.0, 0.0, 0
        state.curves.append({"epoch": state.epoch, **epoch, **found})
        state.waited += 1
        if not state.best or better(found, state.best, self.recipe.select):
            state.best_epoch, state.best, state.waited = state.epoch, found, 0
            self.best_weights = {name: value.cpu().clone() for name, value in self.module.state_dict().items()}

    def save(self) -> None:
        """Replace the checkpoint by where the training stands."""
        if self.checkpoint is None:
            return
        tensors = {f"model/{name}": value for name, value in self.module.state_dict().items()}
        tensors |= {f"best/{name}": value for name, value in self.best_weights.items()}
        if self.average:
            tensors |= {f"average/{name}": value for name, value in self.average.tensors.items()}
        # Numbered in the order of the groups' parameters.
        held = self.optimizer.state_dict()["state"] if self.optimizer else {}
        for number, moments in held.items():
            tensors |= {f"optimizer/{number}/{name}": value for name, value in moments.items() if value is not None}
        numbers = {
            "state": asdict(self.state),
            "precision": self.fabric.strategy.precision.state_dict(),
            "average_steps": self.average.steps if self.average else 0,
        }
        self.checkpoint.save(tensors, numbers)

    def _load_moments(self, moments: dict[str, torch.Tensor]) -> None:
        parameters = [one for group in self.optimizer.param_groups for one in group["params"]]
        state: dict[int, dict[str, torch.Tensor]] = {}
        for key, value in moments.items():
            number, _, name = key.partition("/")
            parameter = parameters[int(number)]
            # The fused optimizers walk memory, not axes: a moment must lie there exactly as its weight does.
            laid = torch.empty_like(parameter).copy_(value) if value.shape == parameter.shape else value
            state.setdefault(int(number), {})[name] = laid
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})


def _under(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def better(found: dict[str, float | None], best: dict[str, float | None], select: str) -> bool:
    """Whether an epoch beats the best so far by the figure `select`; by the loss where that figure is not defined."""
    new, old = found[select], best[select]
    if select != "val_loss" and new is not None and old is not None:
        return new > old
    return found["val_loss"] < best["val_loss"]
