"""Drift: a batch is taken in beside everything, judged by the room, and told of."""

import json
from pathlib import Path

import pytest
from toy_repository import Toy, events

from flows.drift import drift

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("told")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    toy = Toy.make(tmp_path_factory.mktemp("trained"))
    toy.run("dvc", "repro", "--quiet")
    toy.commit("Trained")
    return toy


@pytest.fixture
def toy(trained: Toy, tmp_path: Path) -> Toy:
    return trained.copy(tmp_path)


def batch(toy: Toy, cases: str) -> None:
    (toy.path.parent / "batch.txt").write_text(cases)
    toy.set("drift.incoming.idc", "../batch.txt")


def test_without_a_batch_there_is_nothing_to_do(toy: Toy) -> None:
    assert drift(str(toy.path)) == "no batch"


def test_a_batch_like_the_rest_is_stable_and_leaves_the_workspace_alone(toy: Toy) -> None:
    batch(toy, "idc-x\nidc-y\n")
    before = toy.state()
    assert drift(str(toy.path)) == "stable"
    assert toy.state() == before
    assert json.loads((toy.path / ".stroma/drift.json").read_text())["verdict"] == "stable"
    assert toy.worktrees() == []
    assert toy.tags() == []


def test_another_batch_is_told_of_and_may_start_a_retrain(toy: Toy) -> None:
    batch(toy, "scanner-x\n")
    assert drift(str(toy.path)) == "drifted"
    assert toy.tags() == []
    toy.set("drift.retrain", "true")
    assert drift(str(toy.path)) == "drifted"
    assert toy.champion().version == "v1.0.0"
    assert "stroma.drift.found" in events("stroma.drift.*")
