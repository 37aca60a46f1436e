"""What a recipe freezes stays as it was, and the rest trains."""

import pytest
import timm
import torch

from stages.contracts import networks
from stages.contracts.errors import StageError
from stages.train.freeze import counted, freeze, layers, train_mode

assert networks


def frozen(model: torch.nn.Module, what: float | str) -> list[str]:
    freeze(model, what)
    return [name for name, weight in model.named_parameters() if not weight.requires_grad]


@pytest.fixture
def small() -> torch.nn.Module:
    return timm.create_model("mobilenetv3_small_050", num_classes=2)


def test_all_is_everything_but_the_head(small: torch.nn.Module) -> None:
    freeze(small, "all")
    assert [name for name, weight in small.named_parameters() if weight.requires_grad] == [
        "classifier.weight",
        "classifier.bias",
    ]
    assert counted(small) == (2 * 1025, sum(weight.numel() for weight in small.parameters()))


def test_a_share_is_one_of_the_layers_in_their_order(small: torch.nn.Module) -> None:
    names = [name for name, _ in layers(small)]
    half = frozen(small, 0.5)
    assert {name.rpartition(".")[0] for name in half} == set(names[: round(len(names) / 2)])
    assert frozen(small, 0.0) == []


def test_a_block_is_frozen_with_all_before_it(small: torch.nn.Module) -> None:
    found = frozen(small, "blocks.2")
    assert {name.split(".")[0] for name in found} == {"conv_stem", "bn1", "blocks"}
    assert {name.split(".")[1] for name in found if name.startswith("blocks")} == {"0", "1", "2"}


def test_a_later_phase_thaws_what_an_earlier_one_froze(small: torch.nn.Module) -> None:
    assert len(frozen(small, "all")) > len(frozen(small, "blocks.2")) > len(frozen(small, 0.0)) == 0


def test_a_name_that_is_no_part_names_the_nearest(small: torch.nn.Module) -> None:
    with pytest.raises(StageError, match=r"'block\.2' holds no layer.*blocks\.2"):
        freeze(small, "block.2")


def test_a_transformers_own_weights_are_frozen_first() -> None:
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=2)
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight"} <= set(frozen(model, "patch_embed"))


def test_the_hidden_layers_of_a_head_of_our_own_train() -> None:
    model = timm.create_model("headed", body="mobilenetv3_small_050", hidden=[8], num_classes=2)
    assert all(name.startswith("body.") for name in frozen(model, "all"))
    assert {name.split(".")[1] for name in frozen(model, "blocks.0")} == {"conv_stem", "bn1", "blocks"}


def test_batchnorm_of_frozen_parts_keeps_its_statistics_while_the_rest_trains(small: torch.nn.Module) -> None:
    freeze(small, "blocks.1")
    train_mode(small)
    before = {name: value.clone() for name, value in small.state_dict().items() if name.endswith("running_mean")}
    small(torch.randn(4, 3, 32, 32))
    moved = {
        name for name, value in small.state_dict().items() if name in before and not torch.equal(value, before[name])
    }
    assert moved
    assert not [name for name in moved if name.startswith(("bn1", "blocks.0", "blocks.1"))]
    assert small.training
