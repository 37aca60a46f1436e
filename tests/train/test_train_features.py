"""Features of frozen parts are computed once, and nobody can tell by the result."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from conftest import BASELINE, Workspace
from lightning_fabric import Fabric
from test_train_stage import run

from stages.contracts import networks
from stages.train import fit as loop
from stages.train.freeze import freeze, train_mode
from stages.train.prefix import Prefix, cut

assert networks
CHAINS = [
    "densenet121", "efficientnet_b0", "mobilenetv2_100", "mobilenetv3_large_100", "mobilenetv4_conv_small", "resnet18",
]  # fmt: skip


def split(model: torch.nn.Module, what: float | str, precision: str = "32-true") -> tuple[Prefix | None, torch.Tensor]:
    """The prefix of a model in train mode, and the images that it was tried on."""
    model = model.to(memory_format=torch.channels_last)
    freeze(model, what)
    train_mode(model)
    torch.manual_seed(0)
    images = torch.randn(6, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    return cut(fabric, model, fabric.setup(model), images), images


@pytest.mark.parametrize("arch", CHAINS)
@pytest.mark.parametrize("what", [0.5, "all"])
def test_a_frozen_prefix_and_the_rest_are_the_network(arch: str, what: float | str) -> None:
    torch.manual_seed(1)
    model = timm.create_model(arch, num_classes=2, drop_rate=0.3)
    prefix, images = split(model, what)
    features = prefix(images)
    torch.manual_seed(7)
    whole = model(images)
    torch.manual_seed(7)
    assert torch.equal(prefix.rest(model, features), whole)
    if what == "all":
        assert features.shape == (6, model.head_hidden_size)


def test_a_transformer_is_cut_between_its_halves() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=64, num_classes=2, depth=2)
    prefix, images = split(model, "all")
    assert torch.equal(prefix.rest(model, prefix(images)), model(images))
    assert split(timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2), "blocks.0")[0] is None


def test_the_body_under_a_head_of_our_own_is_the_prefix() -> None:
    model = timm.create_model("headed", body="vgg11", hidden=[8], num_classes=2, head_drop_rate=0.5)
    prefix, images = split(model, "all")
    assert prefix(images).shape == (6, 512)


def test_nothing_is_cut_off_where_nothing_is_frozen() -> None:
    assert split(timm.create_model("resnet18"), 0.0)[0] is None


def test_the_doors_are_shut_after_the_rest_was_run() -> None:
    model = timm.create_model("resnet18", num_classes=2)
    prefix, images = split(model, "layer2")
    before = model.eval()(images)
    prefix.rest(model, prefix(images))
    assert torch.equal(model(images), before)


FROZEN = {**BASELINE, "image_size": 32, "epochs": 4, "augment": {"flip": True}, "sources": ["idc", "breakhis"]}
del FROZEN["dropout"]


@pytest.mark.parametrize(
    "changes",
    [
        {"arch": "mobilenetv3_large_100", "freeze": "all", "batch_size": 10},
        {"arch": "mobilenetv4_conv_small", "freeze": 0.5, "batch_size": 10, "augment": {"eightfold": True}},
        {
            "arch": "vgg11",
            "freeze": "all",
            "head": {"hidden": [8], "dropout": 0.5},
            "dropout": 0.0,
            "sampler": "weighted",
        },
        {"arch": "densenet121", "freeze": "features.denseblock2", "epochs": 2, "ema": 0.9, "accumulate": 2},
        {"arch": "vit_tiny_patch16_224", "freeze": "all"},
        {"arch": "mobilenetv3_small_050", "freeze": 0.5, "precision": "bf16-mixed"},
        {
            "arch": "resnet10t",
            "ema": 0.9,
            "phases": [{"epochs": 2}, {"epochs": 2, "freeze": "layer3"}, {"epochs": 2, "freeze": "all"}],
        },
    ],
    ids=lambda changes: changes["arch"],
)
def test_kept_features_change_no_bit_of_the_result(
    changes: dict, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 60, "breakhis": 60})
    profile = {"init_missing": "random", "epochs": None}
    recipe = {**FROZEN, **changes}
    if "phases" in recipe:
        del recipe["epochs"]
    workspace.write_params({"mine": recipe}, profile={**profile, "features_gb": 0})
    assert "is more than features_gb = 0" in run(workspace, "mine", monkeypatch)
    plain = workspace.outputs("mine")
    workspace.write_params({"mine": recipe}, profile={**profile, "features_gb": 1})
    assert "frozen features kept" in run(workspace, "mine", monkeypatch)
    assert workspace.outputs("mine") == plain


def test_a_frozen_prefix_changes_no_bit_of_training_the_whole_network(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48})
    workspace.write_params({"mine": {**FROZEN, "arch": "mobilenetv3_small_050", "freeze": 0.5, "batch_size": 8}})
    run(workspace, "mine", monkeypatch)
    cut_off = workspace.outputs("mine")
    monkeypatch.setattr(loop, "cut", lambda *_: None)
    run(workspace, "mine", monkeypatch)
    assert workspace.outputs("mine") == cut_off


@pytest.mark.parametrize("changes", [{"augment": {"rotate": 5}}, {"augment": {"stain": 0.1}}, {"mixup": 0.2}])
def test_images_that_are_never_alike_are_computed_in_each_epoch(
    changes: dict, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write_data({"idc": 48})
    workspace.write_params({"mine": {**FROZEN, "arch": "mobilenetv3_small_050", "freeze": "all", **changes}})
    assert "no two augmented images are alike" in run(workspace, "mine", monkeypatch)


def test_each_view_of_an_image_is_computed_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write_data({"idc": 48})
    workspace.write_params({"mine": {**FROZEN, "arch": "mobilenetv3_small_050", "freeze": "all", "epochs": 12}})
    shown: list[int] = []
    once = Prefix.__call__

    def counting(prefix: Prefix, images: torch.Tensor) -> torch.Tensor:
        shown.append(len(images))
        return once(prefix, images)

    monkeypatch.setattr(Prefix, "__call__", counting)
    run(workspace, "mine", monkeypatch)
    train, val, views = 32, 8, 2
    tried = 2 * 8 + 2
    padding = 12 * 7
    assert sum(shown) <= views * train + val + tried + padding
    assert np.sum(shown) < 12 * train
    assert Path("models/mine/model.safetensors").exists()
