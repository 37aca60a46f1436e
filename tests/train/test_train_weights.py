"""Where start weights come from, and what is refused."""

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from stages.contracts.errors import StageError
from stages.contracts.files import sha256_of
from stages.train.params import Recipe
from stages.train.weights import reestimate_batchnorm, start_model, weight_folders

ARCH = "mobilenetv3_small_050"


def recipe(**changes: object) -> Recipe:
    base = {"arch": ARCH, "sources": ["idc"], "task": "binary", "protocol": "case", "image_size": 32, "epochs": 1}
    base["start"] = "weights/imagenet"
    base["values"] = "params.yaml"
    return Recipe(**{**base, **changes})


def no_hub(repository: str) -> Path:
    raise OSError(f"no route to {repository}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A weights folder with one file, built with other padding and normalised by other means than timm's own."""
    torch.manual_seed(1)
    model = timm.create_model(ARCH, pad_type="same")
    about = {
        "timm_model": ARCH,
        "create_kwargs": json.dumps({"pad_type": "same"}),
        "input_mean": "0.5,0.5,0.5",
        "input_std": "0.4,0.4,0.4",
    }
    save_file(model.state_dict(), tmp_path / f"{ARCH}.imagenet.safetensors", metadata=about)
    return tmp_path


def test_a_local_file_is_used_as_its_metadata_says(folder: Path) -> None:
    found = start_model(recipe(dropout=0.3), 2, [folder], "error", no_hub)
    file = folder / f"{ARCH}.imagenet.safetensors"
    assert (found.start.init, found.start.sha256) == ("imagenet", sha256_of(file))
    assert (found.mean, found.std) == ((0.5,) * 3, (0.4,) * 3)
    assert not found.trust_batchnorm
    torch.manual_seed(1)
    source = timm.create_model(ARCH, pad_type="same").eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        same = torch.equal(found.model.eval().forward_features(images), source.forward_features(images))
    assert same
    assert found.model.get_classifier().out_features == 2


def test_trusted_statistics_are_kept(folder: Path) -> None:
    file = folder / f"{ARCH}.imagenet.safetensors"
    save_file(timm.create_model(ARCH).state_dict(), file, metadata={"batchnorm": "trusted"})
    assert start_model(recipe(), 2, [folder], "error", no_hub).trust_batchnorm


def test_the_hub_is_asked_only_when_no_file_is_there(folder: Path) -> None:
    def hub(repository: str) -> Path:
        assert repository.startswith(f"timm/{ARCH}")
        return folder / f"{ARCH}.imagenet.safetensors"

    found = start_model(recipe(), 2, [], "error", hub)
    assert found.start.init == "imagenet"
    assert found.trust_batchnorm
    assert found.mean != (0.5,) * 3


def test_missing_weights_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(StageError, match=rf"no {ARCH}.imagenet.safetensors in .*no route.*STROMA_WEIGHTS"):
        start_model(recipe(), 2, [], "error", no_hub)


def test_missing_weights_become_a_marked_random_start_where_the_profile_allows_it() -> None:
    found = start_model(recipe(), 2, [], "random", no_hub)
    assert found.start.init == "random"
    assert "random start" in str(found.start.note)


def test_a_pinned_file_that_is_missing_is_never_replaced_by_a_random_start() -> None:
    with pytest.raises(StageError, match="missing"):
        start_model(recipe(init_sha256="0" * 64), 2, [], "random", no_hub)


def test_a_file_with_another_hash_than_pinned_is_refused(folder: Path) -> None:
    with pytest.raises(StageError, match="pins 0000"):
        start_model(recipe(init_sha256="0" * 64), 2, [folder], "random", no_hub)


def test_a_file_of_another_model_is_refused(folder: Path) -> None:
    file = folder / f"{ARCH}.imagenet.safetensors"
    save_file(timm.create_model(ARCH).state_dict(), file, metadata={"timm_model": "resnet18"})
    with pytest.raises(StageError, match="holds resnet18"):
        start_model(recipe(), 2, [folder], "random", no_hub)


def test_a_file_whose_keys_do_not_fit_is_refused(folder: Path) -> None:
    state = timm.create_model(ARCH).state_dict()
    state["unheard_of"] = torch.zeros(1)
    del state["conv_stem.weight"]
    save_file(state, folder / f"{ARCH}.imagenet.safetensors")
    with pytest.raises(StageError, match=r"2 of \d+ tensors .*conv_stem.weight, unheard_of"):
        start_model(recipe(), 2, [folder], "random", no_hub)


def test_a_file_that_is_no_safetensors_is_refused(folder: Path) -> None:
    (folder / f"{ARCH}.imagenet.safetensors").write_bytes(b"not weights")
    with pytest.raises(StageError, match="not a safetensors file"):
        start_model(recipe(), 2, [folder], "random", no_hub)


def test_a_weights_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert weight_folders(tmp_path, str(tmp_path)) == [tmp_path, tmp_path]
    assert weight_folders(None, None) == []
    with pytest.raises(StageError, match="STROMA_WEIGHTS"):
        weight_folders(None, str(tmp_path / "absent"))


def test_batchnorm_statistics_become_those_of_the_images_shown() -> None:
    layer = nn.BatchNorm2d(2)
    model = nn.Sequential(layer, nn.Dropout(0.5))
    shown = [3 + 2 * torch.randn(64, 2, 4, 4) for _ in range(4)]

    def forward() -> None:
        for images in shown:
            model(images)

    reestimate_batchnorm(model, forward)
    together = torch.cat(shown)
    assert torch.allclose(layer.running_mean, together.mean(dim=(0, 2, 3)), atol=1e-4)
    assert torch.allclose(layer.running_var, together.var(dim=(0, 2, 3)), rtol=0.05)
    assert layer.momentum == 0.1
    assert torch.equal(layer.weight, torch.ones(2))


def test_a_fresh_classifier_starts_out_undecided() -> None:
    torch.manual_seed(0)
    model = start_model(recipe(arch="mobilenetv2_100", start="weights/random"), 2, [], "error", no_hub).model
    assert model.get_classifier().weight.abs().max() < 0.05
