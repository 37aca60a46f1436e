"""Several devices: who trains, which images of a step are whose, and how all stay equal.

One process a device. Each holds the whole network and the whole corpus, draws all that is random of the whole step,
and computes its share of it; then gradients are summed, and all move alike. What all hold is the same after each step,
so that only the first process writes, and any of them could.

Fabric's DDP strategy starts the processes and joins them. Its wrapper, which sends gradients off inside the backward
pass, is left out: where one process runs out of memory there, the others would wait for it for ever.
"""

import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators.cuda import num_cuda_devices
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy
from torch import distributed, nn
from torch.multiprocessing.spawn import ProcessExitedException, ProcessRaisedException
from torch.nn.modules.batchnorm import _BatchNorm

from stages.contracts.errors import StageError
from stages.train.params import TrainProfile

NODE_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK")
"""What each of several machines must be told: where the first one listens, and which one it is itself, from 0."""
PATIENCE_S = 10.0
"""How long a process that has lost another waits to be ended, so that the other's reason is the one that is told."""


class DataParallel(DDPStrategy):
    """Fabric's DDP without its wrapper around the network."""

    def setup_environment(self) -> None:
        """Find the other processes, without a word of it from each."""
        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        super().setup_environment()

    def setup_module(self, module: nn.Module) -> nn.Module:
        """The network itself; `summed` does what the wrapper would."""
        return module


def fabric_of(profile: TrainProfile, precision: str) -> Fabric:
    """Fabric for what the profile says of devices. Raises StageError where this machine does not have them."""
    held = 0 if profile.accelerator == "cpu" else num_cuda_devices()
    if profile.accelerator == "cuda" and not held:
        raise StageError("accelerator: cuda, but torch finds no GPU here; set accelerator: auto or cpu")
    if 0 < held < profile.devices:
        raise StageError(f"devices: {profile.devices}, but this machine has {held} GPUs; lower it")
    if profile.devices * profile.num_nodes == 1 and profile.strategy == "auto":
        return Fabric(accelerator=profile.accelerator, devices=1, precision=precision)
    missing = [name for name in NODE_VARIABLES if name not in os.environ]
    if profile.num_nodes > 1 and missing:
        raise StageError(
            f"num_nodes: {profile.num_nodes} needs {', '.join(missing)} in the environment of each machine: "
            "MASTER_ADDR and MASTER_PORT of the first one, and NODE_RANK, from 0; or set num_nodes: 1"
        )
    # Flags travel through gloo on the CPU: to read one from a GPU would make it wait.
    backend = "cpu:gloo,cuda:nccl" if held else "gloo"
    return Fabric(
        accelerator=profile.accelerator,
        devices=profile.devices,
        num_nodes=profile.num_nodes,
        strategy=DataParallel(start_method="spawn", process_group_backend=backend),
        plugins=[LightningEnvironment()],
        precision=precision,
    )


def one_device(profile: TrainProfile) -> TrainProfile:
    """The same profile for a training in this process alone."""
    return profile.model_copy(update={"devices": 1, "num_nodes": 1, "strategy": "auto"})


def launched(fabric: Fabric, function: Callable[[Fabric], str]) -> str:
    """What `function(fabric)` gives, run in one process for each device; that of the first is returned.

    function: of a module that is no door, or a partial of one: other processes must find it. Raises StageError with the
    reason of the process that failed first; the others are ended.
    """
    if not isinstance(fabric.strategy, DataParallel):
        return fabric.launch(function)
    logging.getLogger("torch.multiprocessing.spawn").setLevel(logging.ERROR)
    given = os.environ.get("MASTER_PORT")
    try:
        return fabric.launch(partial(_one_of_many, function))
    except ProcessRaisedException as error:
        _, found, said = str(error).rpartition(f"{StageError.__module__}.StageError: ")
        if not found:
            raise
        raise StageError(said.strip()) from None
    except ProcessExitedException as error:
        how = error.signal_name or f"exit status {error.exit_code}"
        lacking = "; a machine that is out of memory does so: lower devices, or the recipe's image_size"
        why = lacking if how == "SIGKILL" else "; what it wrote before says why"
        raise StageError(f"the process of device {error.error_index} was ended ({how}){why}") from None
    finally:
        for child in multiprocessing.active_children():
            child.kill()
        # Fabric leaves the port that it chose here, where the next training would take it for given.
        if given is None:
            os.environ.pop("MASTER_PORT", None)


def _one_of_many(function: Callable[[Fabric], str], fabric: Fabric) -> str:
    """Run in each process: one of them speaks, and what the door would say of an error is said here."""
    if not fabric.is_global_zero:
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115  to the end of the process
    try:
        return function(fabric)
    except StageError as error:
        raise StageError(str(error)) from None  # `launched` knows no other kind
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise StageError(f"{error.strerror or error}{where}") from error


def cut(count: int, parts: int, *, paired: bool) -> list[np.ndarray]:
    """The places 0 .. count-1 in `parts` of even size, each in order.

    paired: with each place its opposite, count-1-place, as mixing takes it: the cut then changes no partner. A part may
    be cut again in the same way.
    """
    if not paired:
        return np.array_split(np.arange(count), parts)
    middle = np.arange(count // 2, count - count // 2)
    sides = np.array_split(np.arange(count // 2), parts)
    middles = [middle if number == parts - 1 else middle[:0] for number in range(parts)]
    return [np.concatenate([side, own, count - 1 - side[::-1]]) for side, own in zip(sides, middles, strict=True)]


def share(fabric: Fabric, count: int, *, paired: bool) -> np.ndarray:
    """The places of a step of `count` images that this process computes."""
    return cut(count, fabric.world_size, paired=paired)[fabric.global_rank]


def summed(fabric: Fabric, tensors: Sequence[torch.Tensor]) -> None:
    """Put the sum over all processes into the tensors, which are of one kind."""
    if fabric.world_size == 1 or not tensors:
        return
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    with _connected():
        distributed.all_reduce(flat)
    parts = flat.split([tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))


def level_statistics(fabric: Fabric, module: nn.Module) -> None:
    """Give the running statistics of BatchNorm their mean over all processes, each of which saw its share of the step.

    They move by a linear rule, so that this is what they would be had each seen all steps of all.
    """
    if fabric.world_size == 1:
        return
    layers = [one for one in module.modules() if isinstance(one, _BatchNorm) and one.training]
    held = [value for one in layers for value in (one.running_mean, one.running_var) if value is not None]
    summed(fabric, held)
    for value in held:
        value.div_(fabric.world_size)


def anywhere(fabric: Fabric, flag: bool) -> bool:
    """Whether `flag` is set in any process."""
    if fabric.world_size == 1:
        return flag
    count = torch.tensor(int(flag))
    with _connected():
        distributed.all_reduce(count)
    return bool(count)


def spread(fabric: Fabric, module: nn.Module) -> None:
    """Give all processes the weights that the first one has."""
    if fabric.world_size == 1:
        return
    with _connected():
        for tensor in module.state_dict().values():
            distributed.broadcast(tensor, 0)


def handed_round(fabric: Fabric, value: Any) -> Any:
    """What the first process holds, in all of them."""
    with _connected():
        return fabric.broadcast(value)


@contextmanager
def _connected() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        time.sleep(PATIENCE_S)
        raise StageError(f"another process of this training is gone; its own output says why ({error})") from None
