"""Resident batches, their augmentation, and which images an epoch shows."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.contracts.modelfolder import normalising
from stages.train.augment import STAINS, drawn, gathered, restained, viewed, views_of, warped
from stages.train.batches import Batches, load_corpus
from stages.train.choices import Augment
from stages.train.params import Recipe
from stages.train.sampling import chances, class_weights, epoch_batches, generator

SIDE = 12


def recipe(**changes: object) -> Recipe:
    base = {"arch": "baseline_cnn", "sources": ["idc", "breakhis"], "task": "binary", "protocol": "case"}
    return Recipe(
        **{**base, "image_size": 8, "start": "weights/random", "values": "params.yaml", "epochs": 1, **changes}
    )


def two_sources() -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    stores = {
        "idc": rng.integers(0, 256, (9, SIDE, SIDE, 3), dtype=np.uint8),
        "breakhis": rng.integers(0, 256, (7, 10, 16, 3), dtype=np.uint8),
    }
    rows = pd.concat(
        pd.DataFrame(
            {
                "source": source,
                "case_id": [f"{source}-{one // 2}" for one in range(len(store))],
                "pixel_row": rng.permutation(len(store)),
                "label": np.arange(len(store)) % 2,
            }
        )
        for source, store in stores.items()
    )
    return rows.reset_index(drop=True), stores


def batches_of(settings_: Recipe, augment: Augment) -> tuple[Batches, pd.DataFrame, dict[str, np.ndarray]]:
    rows, stores = two_sources()
    prepare = normalising(settings_.image_size, settings_.view, [0.5] * 3, [0.25] * 3)
    corpus = load_corpus(rows, stores, settings_, augment)
    return Batches(corpus, prepare, settings_.image_size, augment, torch.device("cpu")), rows, stores


@pytest.mark.parametrize("view", ["squash", "crop"])
@pytest.mark.parametrize("size", [8, 10, 20])
def test_a_batch_is_what_evaluate_would_prepare(view: str, size: int) -> None:
    settings_ = recipe(view=view, image_size=size)
    batches, rows, stores = batches_of(settings_, Augment(eightfold=True))
    positions = np.array([15, 0, 3, 9, 8, 3])
    images, targets = batches(positions)
    prepare = normalising(size, view, [0.5] * 3, [0.25] * 3)
    for image, target, position in zip(images, targets, positions, strict=True):
        row = rows.iloc[position]
        stored = torch.from_numpy(stores[row["source"]][[row["pixel_row"]]])
        assert torch.equal(image, prepare(stored)[0])
        assert target == row["label"]


def test_warped_training_images_are_kept_larger_than_the_model_sees() -> None:
    batches, _, _ = batches_of(recipe(), Augment(rotate=10))
    assert batches.corpus.pixels["breakhis"].shape[1:3] == (10, 16)
    assert batches_of(recipe(), Augment())[0].corpus.pixels["breakhis"].shape[1:3] == (8, 8)


def test_the_same_moment_draws_the_same_batch_and_another_moment_another() -> None:
    augment = Augment(eightfold=True, rotate=20, zoom=0.2)
    batches, _, _ = batches_of(recipe(), augment)
    first, again, later = (
        batches(np.arange(16), drawn(augment, 16, generator(1, 2, step)))[0].clone() for step in (3, 3, 4)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, later)


def test_each_image_of_a_batch_gets_its_own_draw() -> None:
    draws = drawn(Augment(eightfold=True, rotate=20, zoom=0.2), 200, generator(1, 0, 0))
    assert set(draws.view) == set(range(8))
    assert len(np.unique(draws.angle)) == len(np.unique(draws.zoom)) == 200
    assert np.abs(draws.angle).max() <= 20
    assert draws.zoom.min() >= 1 / 1.2 - 1e-6
    assert draws.zoom.max() <= 1.2 + 1e-6


def test_the_flip_of_a_recipe_only_mirrors_left_and_right() -> None:
    assert set(drawn(Augment(flip=True), 100, generator(1, 0, 0)).view) == {0, 1}


def test_each_mirror_of_a_recipe_is_drawn_by_itself() -> None:
    assert views_of(Augment(flip_vertical=True)) == (0, 2)
    assert views_of(Augment(flip=True, flip_vertical=True)) == (0, 1, 2, 3)
    assert views_of(Augment(eightfold=True, flip=True)) == tuple(range(8))


def test_oblong_images_are_never_turned_by_a_quarter() -> None:
    pixels = torch.from_numpy(two_sources()[1]["breakhis"])
    rows, views = torch.tensor([4, 4]), torch.tensor([2, 6])
    first, second = gathered(pixels, rows, views)
    assert torch.equal(first, second)


def test_squashed_images_are_never_turned_by_a_quarter_though_they_are_square_by_then() -> None:
    for view, turnable in (("squash", False), ("crop", True)):
        assert batches_of(recipe(view=view), Augment())[0].corpus.turnable == {"breakhis": turnable, "idc": True}


images = st.integers(2, 6).flatmap(
    lambda side: st.permutations(range(side * side)).map(lambda p: torch.tensor(p, dtype=torch.uint8).view(side, side))
)


@settings(max_examples=50, deadline=None)
@given(images)
def test_the_eight_views_are_a_group_of_eight(image: torch.Tensor) -> None:
    views = [viewed(image, view) for view in range(8)]
    seen = {tuple(one.reshape(-1).tolist()) for one in views}
    assert len(seen) == 8
    for one in views:
        assert {tuple(viewed(one, view).reshape(-1).tolist()) for view in range(8)} == seen
    by_numpy = [np.rot90(base, turn) for base in (image.numpy(), image.numpy().T) for turn in range(4)]
    assert {tuple(one.reshape(-1).tolist()) for one in by_numpy} == seen


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 7)), min_size=1, max_size=20))
def test_a_gather_is_a_flip_of_each_image(choice: list[tuple[int, int]]) -> None:
    store = two_sources()[1]["idc"]
    rows, views = (torch.tensor(part) for part in zip(*choice, strict=True))
    found = gathered(torch.from_numpy(store), rows, views)
    for image, (row, view) in zip(found.numpy(), choice, strict=True):
        expected = store[row].transpose(1, 0, 2) if view & 4 else store[row]
        expected = expected[::-1] if view & 2 else expected
        expected = expected[:, ::-1] if view & 1 else expected
        assert np.array_equal(image, expected)


def test_a_quarter_turn_by_warping_is_a_quarter_turn() -> None:
    batch = torch.from_numpy(two_sources()[1]["idc"])
    turned = warped(batch, torch.full((9,), 90.0), torch.ones(9), SIDE)
    expected = [np.rot90(image, turns) for image in batch.numpy()[:1] for turns in (1, 3)]
    assert any(np.abs(turned[0].numpy().astype(int) - one).max() <= 1 for one in expected)


def test_warping_by_nothing_changes_nothing() -> None:
    batch = torch.from_numpy(two_sources()[1]["idc"])
    assert torch.equal(warped(batch, torch.zeros(9), torch.ones(9), SIDE), batch)


def test_restaining_scales_each_stain_in_optical_density() -> None:
    stains = STAINS[:2] * np.array([[0.5], [0.8]])
    pixels = np.round(255.5 * np.exp(-np.stack([stains[0], stains[1], stains.sum(axis=0)])) - 0.5)
    batch = torch.from_numpy(pixels.astype(np.uint8)).view(1, 1, 3, 3)
    found = restained(batch, torch.tensor([[1.2, 0.7, 1.0]])).view(3, 3).numpy()
    expected = np.stack([1.2 * stains[0], 0.7 * stains[1], 1.2 * stains[0] + 0.7 * stains[1]])
    assert np.abs(found - (255.5 * np.exp(-expected) - 0.5)).max() <= 2


def test_restaining_by_nothing_changes_nothing() -> None:
    batch = torch.from_numpy(two_sources()[1]["idc"])
    assert torch.equal(restained(batch, torch.ones(9, 3)), batch)


def test_white_stays_white_whatever_the_stain() -> None:
    white = torch.full((2, 4, 4, 3), 255, dtype=torch.uint8)
    assert torch.equal(restained(white, torch.tensor([[0.7, 1.3, 1.0], [1.3, 0.7, 1.2]])), white)


cells = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 4)), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(cells)
def test_weighted_chances_balance_the_classes_inside_each_source(images: list[tuple[int, int, int]]) -> None:
    source, target, case = (np.array(part) for part in zip(*images, strict=True))
    chance = chances(source, target, case, "weighted")
    assert chance.sum() == pytest.approx(1)
    for one in np.unique(source):
        held = source == one
        shares = [chance[held & (target == label)].sum() for label in np.unique(target[held])]
        assert shares == pytest.approx([shares[0]] * len(shares))


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 300), st.integers(2, 64), st.integers(0, 9))
def test_an_epoch_shows_every_image_once_in_batches_of_even_size(count: int, size: int, epoch: int) -> None:
    batches = epoch_batches(np.full(count, 1 / count), "natural", size, generator(5, epoch, -1))
    assert sorted(np.concatenate(batches)) == list(range(count))
    lengths = [len(batch) for batch in batches]
    assert max(lengths) - min(lengths) <= 1
    assert min(lengths) >= 2


def test_balanced_draws_each_class_of_each_source_equally_often() -> None:
    source, target = np.repeat([0, 1], [900, 100]), np.tile([0, 0, 0, 1], 250)
    chance = chances(source, target, np.arange(1000), "balanced")
    cells = [chance[(source == one) & (target == label)].sum() for one in (0, 1) for label in (0, 1)]
    assert cells == pytest.approx([0.25] * 4)


def test_the_smaller_source_is_not_drowned() -> None:
    source, target = np.repeat([0, 1], [9_700, 300]), np.tile([0, 1], 5_000)
    chance = chances(source, target, np.arange(10_000), "weighted")
    assert 0.10 < chance[source == 1].sum() < 0.25


def test_a_large_case_is_drawn_as_often_as_the_root_of_its_size() -> None:
    case = np.repeat([0, 1], [900, 100])
    chance = chances(np.zeros(1000, dtype=int), np.zeros(1000, dtype=int), case, "weighted")
    assert chance[case == 0].sum() == pytest.approx(0.75)


def test_class_weights_undo_what_the_sampler_left_and_no_more() -> None:
    source, target = np.zeros(100, dtype=int), np.repeat([0, 1], [80, 20])
    case = np.arange(100)
    natural = class_weights(chances(source, target, case, "natural"), target, 3)
    assert natural == pytest.approx([0.4, 1.6, 0])
    assert class_weights(chances(source, target, case, "weighted"), target, 3) == pytest.approx([1, 1, 0])
