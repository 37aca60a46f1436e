"""One step of the optimizer, whole or in micro-batches."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from lightning_fabric import Fabric
from test_train_batches import batches_of, recipe

from stages.contracts import networks
from stages.contracts.errors import StageError
from stages.train.checkpoint import Checkpoint
from stages.train.choices import Augment
from stages.train.front import Front
from stages.train.losses import loss_of
from stages.train.moments import moment
from stages.train.params import stretches
from stages.train.session import Session
from stages.train.step import Step, in_memory

assert networks
WEIGHT = np.array([0.5, 1.5], dtype=np.float32)


def weights_after(parts: int, folder: Path, **changes: object) -> dict[str, torch.Tensor]:
    settings = recipe(optimizer="sgd", lr=0.1, augment={"eightfold": True}, **changes)
    batches, _, _ = batches_of(settings, Augment(eightfold=True))
    torch.manual_seed(0)
    module, phases = timm.create_model("baseline_cnn"), stretches(settings)
    session = Session(Fabric(accelerator="cpu", devices=1), module, settings, Checkpoint.of("mine", "a", folder))
    session.resume(phases)
    front = Front(batches, batches, None, 16, parts)
    step = Step(loss_of(settings, torch.from_numpy(WEIGHT)), WEIGHT)
    step.take(session, front, np.arange(16), moment(settings, 0, 0, 16), parts)
    return module.state_dict()


@pytest.mark.parametrize("changes", [{}, {"label_smoothing": 0.1, "clip": 0.01}])
def test_a_step_in_micro_batches_is_the_step_in_one(changes: dict, tmp_path: Path) -> None:
    whole, cut = weights_after(1, tmp_path, **changes), weights_after(3, tmp_path, **changes)
    for name, value in whole.items():
        assert torch.allclose(value, cut[name], atol=1e-6), name


def test_a_clipped_gradient_moves_the_weights_by_no_more(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = timm.create_model("baseline_cnn").state_dict()
    after = weights_after(1, tmp_path, clip=0.01)
    moved = torch.sqrt(sum(((after[name] - value) ** 2).sum() for name, value in before.items()))
    assert float(moved) == pytest.approx(0.1 * 0.01, rel=1e-3)


def memory_for(images: int) -> Callable[[int], torch.Tensor]:
    def attempt(parts: int) -> torch.Tensor:
        if 64 / parts > images:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return torch.tensor(parts)

    return attempt


def test_where_memory_runs_out_the_micro_batch_is_halved_until_it_fits() -> None:
    found, parts = in_memory(memory_for(16), 1, 64)
    assert (int(found), parts) == (4, 4)


def test_a_micro_batch_that_cannot_be_halved_is_an_error() -> None:
    with pytest.raises(StageError, match="memory runs out with a micro-batch of 2 images"):
        in_memory(memory_for(1), 1, 64)


def test_other_errors_pass_through() -> None:
    def broken(parts: int) -> torch.Tensor:
        raise RuntimeError("sizes differ")

    with pytest.raises(RuntimeError, match="sizes differ"):
        in_memory(broken, 1, 64)
