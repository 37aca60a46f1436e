"""What the processes of tests/train/test_train_devices.py run; apart from it, as they know no conftest."""

import os
import signal
from pathlib import Path

import torch
from lightning_fabric import Fabric

from stages.contracts.errors import StageError
from stages.contracts.index import read_index
from stages.contracts.pixels import open_pixels
from stages.train import session, step
from stages.train.devices import anywhere
from stages.train.params import Recipe
from stages.train.training import Surroundings, Trained, train_recipe


def trained(fabric: Fabric, recipe: dict, **changes: object) -> Trained:
    """A training in this process, with the others, in the present folder."""
    settings = Recipe.model_validate({**recipe, **changes})
    rows, _ = read_index(Path("data/index/case.parquet"), 0)
    around = Surroundings("mine", 1, [], "random", "demo", "0", features_gb=1)
    return train_recipe(settings, rows, {"idc": open_pixels(Path("data/pixels/idc.npy"))}, around, fabric=fabric)


def alike(fabric: Fabric, one: Trained) -> bool:
    """Whether all processes hold the same network and the same figures."""
    # How often BatchNorm was run counts for nothing, and is more where memory ran out late.
    held = [value for value in one.model.state_dict().values() if value.is_floating_point()]
    losses = torch.tensor([row["val_loss"] for row in one.curves])
    flat = torch.cat([value.double().reshape(-1) for value in [*held, losses]])
    others = flat.clone()
    torch.distributed.broadcast(others, 0)
    return not anywhere(fabric, not torch.equal(flat, others))


def cleared(done: Trained) -> Trained:
    if done.checkpoint:
        done.checkpoint.clear()
    return done


def together(fabric: Fabric, recipe: dict) -> str:
    """Trainings of two processes that must stay in step; says what went wrong."""
    faults = []
    whole = trained(fabric, recipe)
    if not alike(fabric, whole):
        faults.append("BatchNorm drifts apart")
    cleared(whole)
    save = session.Session.save

    def cut_short(under_way: session.Session) -> None:
        save(under_way)
        raise InterruptedError

    session.Session.save = cut_short
    try:
        trained(fabric, recipe)
    except InterruptedError:
        session.Session.save = save
    resumed = cleared(trained(fabric, recipe))
    same = zip(whole.model.state_dict().values(), resumed.model.state_dict().values(), strict=True)
    if not all(torch.equal(one, other) for one, other in same) or whole.curves != resumed.curves:
        faults.append("a resumed training ends elsewhere")

    if not alike(fabric, trained(fabric, recipe, freeze="blocks.1", augment={"flip": True}, sampler="weighted")):
        faults.append("frozen features drift apart")

    gradients = step.Step._gradients

    def too_large(self: step.Step, *values: object) -> torch.Tensor:
        if fabric.global_rank == 1 and values[-1] == 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return gradients(self, *values)

    step.Step._gradients = too_large
    small = trained(fabric, recipe)
    if not alike(fabric, small) or "micro-batches of 3 images" not in " ".join(small.record.notes):
        faults.append(f"memory is not halved in step: {small.record.notes}")
    return ", ".join(faults)


def failing(fabric: Fabric, how: str) -> str:
    if fabric.global_rank == 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        raise StageError("the disk is\nfull")
    anywhere(fabric, False)
    return "never"
