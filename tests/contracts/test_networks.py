"""Our own networks behave as timm's do."""

import pytest
import timm
import torch

from stages.contracts import networks


@pytest.mark.parametrize("size", [8, 50, 64])
def test_the_baseline_takes_any_image_size(size: int) -> None:
    model = timm.create_model("baseline_cnn", num_classes=8)
    assert isinstance(model, networks.BaselineCNN)
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 8)


def test_the_baseline_offers_its_features_and_takes_another_classifier() -> None:
    model = timm.create_model("baseline_cnn").eval()
    images = torch.randn(2, 3, 24, 24)
    maps = model.forward_features(images)
    assert maps.shape == (2, 128, 3, 3)
    assert torch.equal(model.forward_head(maps), model(images))
    assert model.forward_head(maps, pre_logits=True).shape == (2, model.num_features)
    model.reset_classifier(5)
    assert model(images).shape == (2, 5)
    assert model.get_classifier().out_features == model.num_classes == 5


def test_dropout_is_the_recipes() -> None:
    assert timm.create_model("baseline_cnn", drop_rate=0.4).drop.p == 0.4
