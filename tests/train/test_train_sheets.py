"""Picture sheets: there for every augmentation, made of what training sees, the same bytes every time."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Workspace
from PIL import Image

from stages.contracts.index import read_index
from stages.contracts.modelfolder import resized
from stages.contracts.pixels import open_pixels
from stages.contracts.sections import read_params
from stages.train.choices import Augment
from stages.train.sheets import work
from stages.train.shown import DRAWS, SINGLE, each_augmentation, few_of, shown


@pytest.fixture
def made(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    workspace.write_data({"idc": 48, "breakhis": 48}, lambda frame: frame.assign(blank=0.1))
    workspace.write_params({}, protocols=["case"])
    monkeypatch.chdir(workspace.root)
    return workspace


def pictures() -> dict[str, bytes]:
    return {file.stem: file.read_bytes() for file in sorted(Path("reports/augment").iterdir())}


def test_each_augmentation_has_a_sheet_of_the_same_bytes_every_time(made: Workspace) -> None:
    work(read_params())
    first = pictures()
    work(read_params())
    assert pictures() == first
    assert set(first) == set(SINGLE)
    assert set(Augment.model_fields) <= set(SINGLE)
    assert len(set(first.values())) == len(SINGLE)
    for name in first:
        with Image.open(f"reports/augment/{name}.png") as picture:
            assert picture.format == "PNG"
            assert not picture.info


def test_a_source_without_images_is_left_out(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write_data({"idc": 48}, lambda frame: frame.assign(blank=0.1))
    workspace.write_params({}, protocols=["case"])
    monkeypatch.chdir(workspace.root)
    work(read_params())
    assert set(pictures()) == set(SINGLE)


def test_a_sheet_shows_images_as_the_model_sees_them_and_then_as_drawn(made: Workspace) -> None:
    rows, _ = read_index(Path("data/index/case.parquet"), 0)
    rows = rows[(rows["split"] == "train") & (rows["source"] == "idc")]
    few = few_of(rows)
    assert list(few["label"]) == [0, 0, 1, 1]
    assert few["case_id"].is_unique
    store = open_pixels(Path("data/pixels/idc.npy"))
    flip = each_augmentation(["idc"], "case")["flip"]
    images, captions = shown(flip, few, {"idc": store})
    assert captions is None
    assert len(images) == 1 + DRAWS
    seen = resized(torch.from_numpy(np.stack([store[row] for row in few["pixel_row"]])), flip.image_size, flip.view)
    assert np.array_equal(images[0], seen.numpy())
    mirrored = images[0][:, :, ::-1]
    for column in images[1:]:
        for place, image in enumerate(column):
            assert np.array_equal(image, images[0][place]) or np.array_equal(image, mirrored[place])


def test_a_mixed_image_says_how_much_of_it_is_its_own(made: Workspace) -> None:
    rows, _ = read_index(Path("data/index/case.parquet"), 0)
    few = few_of(rows[(rows["split"] == "train") & (rows["source"] == "idc")])
    cutmix = each_augmentation(["idc"], "case")["cutmix"]
    images, captions = shown(cutmix, few, {"idc": open_pixels(Path("data/pixels/idc.npy"))})
    whole = images[0].astype(int)
    for column, said in zip(images[1:], captions[1:], strict=True):
        for place, image in enumerate(column):
            own = (np.abs(image - whole[place]).max(axis=-1) == 0).mean()
            assert own >= int(said[place].rstrip("%")) / 100 - 0.006
