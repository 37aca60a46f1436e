"""Losses are those of torch, and mixed images answer for both."""

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

from stages.train.losses import as_shares, loss_of
from stages.train.mixing import Mixing, drawn_mixing, mixed
from stages.train.params import Recipe
from stages.train.sampling import generator

LOGITS = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
TARGET = torch.arange(40) % 3 // 2
WEIGHT = torch.tensor([0.4, 1.6])


def recipe(**changes: object) -> Recipe:
    base = {"arch": "baseline_cnn", "sources": ["idc"], "task": "binary", "protocol": "case", "image_size": 8}
    return Recipe(**{**base, "start": "weights/random", "values": "params.yaml", "epochs": 1, **changes})


def mean(loss: torch.Tensor) -> float:
    """What a step makes small: the summed loss over the summed weights of the targets."""
    return float(loss / WEIGHT[TARGET].sum())


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("shares", [False, True])
def test_cross_entropy_is_the_weighted_mean_of_torch(smoothing: float, shares: bool) -> None:
    loss = loss_of(recipe(label_smoothing=smoothing), WEIGHT)
    expected = cross_entropy(LOGITS, TARGET, weight=WEIGHT, label_smoothing=smoothing)
    assert mean(loss(LOGITS, as_shares(TARGET, 2) if shares else TARGET)) == pytest.approx(float(expected), rel=1e-5)


def test_the_sigmoid_of_the_difference_is_the_softmax() -> None:
    output = LOGITS[:, 1] - LOGITS[:, 0]
    single = torch.nn.functional.binary_cross_entropy_with_logits(output, TARGET.float(), weight=WEIGHT[TARGET])
    found = mean(loss_of(recipe(loss="binary_cross_entropy"), WEIGHT)(LOGITS, TARGET))
    assert found == pytest.approx(float(single * len(TARGET) / WEIGHT[TARGET].sum()), rel=1e-5)
    assert found == pytest.approx(mean(loss_of(recipe(), WEIGHT)(LOGITS, TARGET)), rel=1e-5)


def test_focal_loss_leaves_out_what_is_easy() -> None:
    sure = torch.tensor([[-9.0, 9.0], [0.0, 0.0]])
    target, weight = torch.tensor([1, 1]), torch.ones(2)
    focal = loss_of(recipe(loss="focal", focal_gamma=2.0), weight)
    assert float(focal(sure[:1], target[:1])) == pytest.approx(0, abs=1e-6)
    assert float(focal(sure[1:], target[1:])) == pytest.approx(0.25 * np.log(2))


def batch(count: int = 6, size: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.arange(count).float().view(-1, 1, 1, 1).expand(count, 3, size, size).contiguous()
    return images, torch.arange(count) % 2


def test_mixup_blends_each_image_by_a_share_of_its_own() -> None:
    images, target = batch()
    mixing = drawn_mixing(recipe(mixup=0.4), 6, generator(1, 0, 0))
    assert len(np.unique(mixing.keep)) == 6
    found, shares = mixed(images, target, 2, mixing)
    for place in range(6):
        keep = float(mixing.keep[place])
        assert found[place].unique().item() == pytest.approx(keep * place + (1 - keep) * (5 - place), abs=1e-5)
        assert shares[place, target[place]] == pytest.approx(keep if target[place] != target[5 - place] else 1)


def test_cutmix_pastes_a_box_and_its_seen_area_is_the_share() -> None:
    images, target = batch()
    mixing = Mixing(np.full(6, 0.75, np.float32), np.ones(6, bool), np.array([[0.5, 0.5]] * 5 + [[0, 0]], np.float32))
    found, shares = mixed(images, target, 2, mixing)
    assert (found[0, 0] == 5).sum() == 100
    assert shares[0].tolist() == pytest.approx([0.75, 0.25])
    assert (found[5, 0] == 0).sum() == 25
    assert shares[5].tolist() == pytest.approx([25 / 400, 375 / 400])


def test_both_mixings_share_the_images_between_them() -> None:
    assert drawn_mixing(recipe(), 6, generator(1, 0, 0)) is None
    assert drawn_mixing(recipe(cutmix=1.0), 50, generator(1, 0, 0)).cut.all()
    assert 10 < drawn_mixing(recipe(cutmix=1.0, mixup=0.2), 50, generator(1, 0, 0)).cut.sum() < 40
