"""One step of the optimizer, whole or in micro-batches."""

from collections.abc import Callable

import numpy as np
import pytest
import timm
import torch
from lightning_fabric import Fabric
from test_train_batches import batches_of, recipe

from stages.contracts import networks
from stages.contracts.errors import StageError
from stages.train.choices import Augment
from stages.train.losses import loss_of
from stages.train.optimize import make_optimizer
from stages.train.sampling import generator
from stages.train.step import Step, in_memory

assert networks
WEIGHT = np.array([0.5, 1.5], dtype=np.float32)


def weights_after(parts: int, **changes: object) -> dict[str, torch.Tensor]:
    settings = recipe(optimizer="sgd", lr=0.1, augment={"eightfold": True}, **changes)
    batches, _, _ = batches_of(settings, Augment(eightfold=True))
    torch.manual_seed(0)
    fabric = Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(module := timm.create_model("baseline_cnn"), make_optimizer(module, settings))
    step = Step(fabric, settings, batches, loss_of(settings, torch.from_numpy(WEIGHT)), WEIGHT)
    step.take(model, optimizer, np.arange(16), generator(1, 0, 0), parts)
    return module.state_dict()


@pytest.mark.parametrize("changes", [{}, {"label_smoothing": 0.1, "clip": 0.01}])
def test_a_step_in_micro_batches_is_the_step_in_one(changes: dict) -> None:
    whole, cut = weights_after(1, **changes), weights_after(3, **changes)
    for name, value in whole.items():
        assert torch.allclose(value, cut[name], atol=1e-6), name


def test_a_clipped_gradient_moves_the_weights_by_no_more() -> None:
    torch.manual_seed(0)
    before = timm.create_model("baseline_cnn").state_dict()
    after = weights_after(1, clip=0.01)
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
