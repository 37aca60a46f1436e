"""Retraining, from the refresh to the registry, in a repository of the real shape."""

from pathlib import Path

import pytest
from toy_repository import Toy


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    return Toy.make(tmp_path)


def test_a_first_champion_then_unchanged_then_rejected_then_rolled_back(toy: Toy) -> None:
    first = toy.retrain()
    assert first.verdict == "promoted", first
    assert str(toy.champion()) == "champion-binary v1.0.0 (small)"
    second = toy.retrain()
    assert second.verdict == "unchanged"
    assert second.seconds < 5
    toy.set("recipes.small.quality", 0.7)
    third = toy.retrain()
    assert third.verdict == "rejected"
    print(first, second, third)
    print(toy.git("log", "--all", "--graph", "--format=%h %d%n%B"))
    print(toy.git("show", "--stat", "champion-binary@v1.0.0"))
    print(toy.run("gto", "show"))
