"""The model folder: what is written is what is read, and one way from stored pixels to the model's input."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from stages.contracts.errors import StageError
from stages.contracts.modelfolder import (
    ModelRecord,
    Skipped,
    Start,
    load_model,
    normalising,
    prepare,
    read_record,
    resized,
    save_model,
    write_skipped,
)

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def record(**changes: object) -> ModelRecord:
    base = {
        "recipe": "mine", "settings": {"arch": "mobilenetv3_small_050"}, "class_names": ["benign", "malignant"],
        "sources": ["idc"], "missing_sources": [], "data": "demo", "protocol": "case", "fold": 0, "image_size": 32,
        "view": "squash", "mean": MEAN, "std": STD, "index_sha256": "a", "params_sha256": "b",
        "start": Start(init="random"), "parameters": 1, "trained_parameters": 1, "macs": 1, "train_images": 1,
        "val_images": 1, "epochs": 1, "best_epoch": 1, "best": {"val_auroc": None}, "threads": 1,
    }  # fmt: skip
    return ModelRecord(**{**base, **changes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = timm.create_model("mobilenetv3_small_050", num_classes=2, pad_type="same", drop_rate=0.5)
    save_model(model.to(memory_format=torch.channels_last), record(), tmp_path / "mine")
    return tmp_path / "mine"


def test_a_saved_model_predicts_the_same_when_loaded_and_by_plain_timm(folder: Path) -> None:
    torch.manual_seed(0)
    original = timm.create_model("mobilenetv3_small_050", num_classes=2, pad_type="same").eval()
    model, held = load_model(folder)
    plain = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(model(images), original(images))
        assert torch.equal(plain(images), original(images))
    assert held == record()
    assert not model.training
    data = timm.data.resolve_model_data_config(plain)
    assert (data["input_size"], list(data["mean"]), data["crop_mode"]) == ((3, 32, 32), MEAN, "squash")


def test_equal_models_are_equal_bytes(folder: Path, tmp_path: Path) -> None:
    model, held = load_model(folder)
    save_model(model, held, tmp_path / "again")
    for name in ("model.safetensors", "recipe.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_no_pickle_and_no_path_is_in_the_folder(folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors", "recipe.json"]
    assert str(folder) not in (folder / "config.json").read_text() + (folder / "recipe.json").read_text()


def test_a_skipped_recipe_reads_as_one_and_loads_as_none(tmp_path: Path) -> None:
    skipped = Skipped(recipe="mine", reason="no training image of idc", settings={"arch": "resnet18"})
    write_skipped(skipped, tmp_path / "mine")
    assert read_record(tmp_path / "mine") == skipped
    with pytest.raises(StageError, match="was not run"):
        load_model(tmp_path / "mine")


def test_a_folder_that_is_not_there_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="dvc repro"):
        read_record(tmp_path / "mine")


def test_weights_cut_short_say_which_stage_to_redo(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(StageError, match="train@mine"):
        load_model(folder)


def images(height: int, width: int, count: int = 5) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, (count, height, width, 3), dtype=np.uint8))


def test_prepared_images_are_normalised_as_timm_does_it() -> None:
    batch = images(32, 32)
    expected = (batch.permute(0, 3, 1, 2).float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(
        3, 1, 1
    )
    found = prepare(record())(batch)
    assert torch.allclose(found, expected, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("size", [(700, 460), (50, 50), (384, 252)])
def test_resizing_is_the_antialiased_one_of_pillow(size: tuple[int, int]) -> None:
    width, height = size
    batch = images(height, width, 1)
    by_pillow = np.asarray(Image.fromarray(batch[0].numpy()).resize((64, 64), Image.Resampling.BILINEAR), dtype=int)
    assert np.abs(resized(batch, 64, "squash")[0].numpy() - by_pillow).max() <= 1


def test_a_crop_is_the_largest_centred_square() -> None:
    batch = images(10, 16)
    assert torch.equal(resized(batch, 10, "crop"), batch[:, :, 3:13])


def test_preparing_in_a_buffer_or_in_another_batch_changes_nothing() -> None:
    batch = images(50, 40, 40)
    prepared = normalising(64, "squash", MEAN, STD)
    whole = prepared(batch)
    assert torch.equal(prepared(batch, torch.empty(64, 64, 64, 3)), whole)
    assert torch.equal(torch.cat([prepared(batch[:7]), prepared(batch[7:])]), whole)


def test_resizing_twice_is_resizing_once() -> None:
    once = resized(images(50, 40), 64, "squash")
    assert torch.equal(resized(once, 64, "squash"), once)
