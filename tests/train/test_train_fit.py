"""The loop's own parts: learning rates, figures, choice of the epoch, checkpoints."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score

from stages.train.checkpoint import Checkpoint, fingerprint
from stages.train.figures import auroc, balanced_accuracy, figures
from stages.train.optimize import MovingAverage, learning_rate, make_optimizer
from stages.train.params import Recipe, stretches
from stages.train.session import better


def recipe(**changes: object) -> Recipe:
    base = {"arch": "baseline_cnn", "sources": ["idc"], "task": "binary", "protocol": "case", "image_size": 8}
    base["start"] = "weights/random"
    base["values"] = "params.yaml"
    return Recipe(**{**base, "epochs": 3, "lr": 0.01, **changes})


def test_onecycle_is_the_one_of_torch() -> None:
    ours = stretches(recipe(schedule="onecycle"))[0]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=60, cycle_momentum=False)
    for step in range(60):
        # torch rounds the turning point to 0.3 * 60 - 1 steps; ours stands at 30 % of the way.
        assert learning_rate(ours, step // 20, step % 20, 20) == pytest.approx(schedule.get_last_lr()[0], abs=5e-4)
        optimizer.step()
        schedule.step()
    assert learning_rate(ours, 2, 19, 20) == pytest.approx(0.01 / 250_000)


def test_exponential_decays_after_each_epoch() -> None:
    ours = stretches(recipe(schedule="exponential", decay=0.95))[0]
    assert [learning_rate(ours, epoch, 7, 20) for epoch in range(3)] == pytest.approx([0.01, 0.0095, 0.009025])


def test_cosine_ends_at_nothing_and_constant_stays() -> None:
    cosine, constant = stretches(recipe(schedule="cosine"))[0], stretches(recipe())[0]
    assert learning_rate(cosine, 0, 0, 5) == pytest.approx(0.01)
    assert learning_rate(cosine, 2, 4, 5) == pytest.approx(0)
    assert learning_rate(constant, 2, 4, 5) == 0.01


def test_the_rate_climbs_during_the_warm_up_and_the_schedule_follows() -> None:
    cosine = stretches(recipe(schedule="cosine", warmup=1.0))[0]
    assert [learning_rate(cosine, 0, step, 4) for step in range(4)] == pytest.approx([0.0025, 0.005, 0.0075, 0.01])
    assert learning_rate(cosine, 1, 0, 4) == pytest.approx(0.01)
    assert learning_rate(cosine, 2, 3, 4) == pytest.approx(0)


def test_the_moving_average_follows_the_weights_and_takes_their_place() -> None:
    layer = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(layer.weight)
    average = MovingAverage(layer, 0.9)
    torch.nn.init.ones_(layer.weight)
    average.update()
    with average.in_place():
        assert layer.weight.item() == pytest.approx(1 - 2 / 11)
    assert layer.weight.item() == 1
    for _ in range(200):
        average.update()
    assert average.tensors["weight"].item() == pytest.approx(1, abs=1e-6)


def test_biases_and_norms_are_not_decayed() -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    groups = make_optimizer(model, recipe(weight_decay=0.1)).param_groups
    assert [(group["weight_decay"], len(group["params"])) for group in groups] == [(0.1, 1), (0.0, 3)]


scored = st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40)


@settings(max_examples=60, deadline=None)
@given(scored)
def test_auroc_is_the_one_of_scikit_learn(pairs: list[tuple[bool, int]]) -> None:
    positive, score = (np.array(part) for part in zip(*pairs, strict=True))
    if positive.all() or not positive.any():
        assert auroc(positive, score) is None
    else:
        assert auroc(positive, score) == pytest.approx(roc_auc_score(positive, score))


def test_figures_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(2)
    logits, target = rng.normal(size=(50, 2)).astype(np.float32), rng.integers(0, 2, 50)
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    found = figures(logits, target, np.zeros(50, dtype=int), np.ones(2, dtype=np.float32))
    assert found["val_loss"] == pytest.approx(log_loss(target, probability), rel=1e-5)
    assert found["val_auroc"] == pytest.approx(roc_auc_score(target, probability[:, 1]))
    assert found["val_balanced_accuracy"] == pytest.approx(balanced_accuracy_score(target, probability.argmax(axis=1)))


def test_sources_count_by_the_root_of_their_size_in_a_figure() -> None:
    right, wrong = np.array([[0, 1.0], [1, 0]] * 18), np.array([[1, 0.0], [0, 1]] * 2)
    target, source = np.array([1, 0] * 20), np.repeat([0, 1], [36, 4])
    assert figures(np.concatenate([right, wrong]), target, source, np.ones(2))["val_auroc"] == pytest.approx(6 / 8)


def test_a_val_part_of_one_class_has_a_loss_but_no_auroc() -> None:
    found = figures(np.zeros((3, 2)), np.ones(3, dtype=int), np.zeros(3, dtype=int), np.ones(2))
    assert found["val_auroc"] is found["val_balanced_accuracy"] is None
    assert found["val_loss"] == pytest.approx(np.log(2))


def test_subtypes_absent_from_val_do_not_count() -> None:
    probability = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]])
    assert balanced_accuracy(np.array([0, 1, 1]), probability) == pytest.approx(0.75)


def test_the_best_epoch_is_chosen_by_the_recipes_figure_or_by_loss_where_that_is_undefined() -> None:
    def epoch(auc: float | None, loss: float) -> dict[str, float | None]:
        return {"val_auroc": auc, "val_loss": loss, "val_balanced_accuracy": None}

    assert better(epoch(0.9, 2.0), epoch(0.8, 1.0), "val_auroc")
    assert not better(epoch(0.8, 1.0), epoch(0.8, 2.0), "val_auroc")
    assert better(epoch(0.7, 1.0), epoch(0.8, 2.0), "val_loss")
    assert better(epoch(None, 1.0), epoch(None, 2.0), "val_auroc")


def test_a_checkpoint_gives_back_what_was_put_in_and_clears_up(tmp_path: Path) -> None:
    checkpoint = Checkpoint.of("mine", "aa", tmp_path)
    assert checkpoint.load() is None
    tensors = {"model/w": torch.randn(3, 4).T, "optimizer/0/step": torch.tensor(7.0)}
    checkpoint.save(tensors, {"state": {"loss_sum": 0.1 + 0.2}})
    held, state = checkpoint.load()
    assert all(torch.equal(held[name], tensors[name]) for name in tensors)
    assert state["state"]["loss_sum"] == 0.1 + 0.2
    checkpoint.clear()
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_of_other_settings_are_deleted_and_other_recipes_left(tmp_path: Path) -> None:
    Checkpoint.of("mine", "old", tmp_path).save({"w": torch.zeros(1)}, {})
    Checkpoint.of("yours", "old", tmp_path).save({"w": torch.zeros(1)}, {})
    assert Checkpoint.of("mine", "new", tmp_path).load() is None
    assert [file.name for file in tmp_path.rglob("*.safetensors")] == ["old.safetensors"]
    assert Checkpoint.of("yours", "old", tmp_path).load() is not None


def test_a_checkpoint_cut_short_counts_as_none(tmp_path: Path) -> None:
    checkpoint = Checkpoint.of("mine", "aa", tmp_path)
    checkpoint.save({"w": torch.zeros(100)}, {})
    checkpoint.path.write_bytes(checkpoint.path.read_bytes()[:200])
    assert checkpoint.load() is None


def test_fingerprints_differ_where_a_setting_does() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1, "b": 2}) != fingerprint({"a": 1, "b": 3})
