"""Averages the calibrated probabilities of several recipes, image by image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from stages.contracts.errors import StageError
from stages.contracts.manifest import LABELS
from stages.contracts.tables import read_metadata, read_table

LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""A mean of 0 has no logarithm; this is the smallest float32 of full precision."""


@dataclass(frozen=True)
class Member:
    """The predictions of one recipe on val and test."""

    recipe: str
    class_names: list[str]
    protocol: str
    fold: int
    data: str
    rows: pd.DataFrame
    """Columns of the predictions table, indexed by image_id."""

    @property
    def probability(self) -> pd.DataFrame:
        """Calibrated: (n, classes)."""
        return self.rows[[f"probability_{name}" for name in self.class_names]]


@dataclass(frozen=True)
class Average:
    """The mean over the members, on the images that all of them predicted; in the form that an evaluation asks for."""

    recipe: str
    members: list[Member]
    rows: pd.DataFrame
    """image_id, case_id, source, split and target, sorted by (split, source, image_id)."""
    probability: np.ndarray
    """float32 (n, classes), order of the rows."""
    notes: list[str]
    """Which images were left out, and why."""

    @property
    def class_names(self) -> list[str]:
        """Those of every member."""
        return self.members[0].class_names

    @property
    def sources(self) -> list[str]:
        """Data sets that every member predicted."""
        return sorted(self.rows["source"].unique())

    @property
    def protocol(self) -> str:
        """That of every member."""
        return self.members[0].protocol

    @property
    def fold(self) -> int:
        """That of every member."""
        return self.members[0].fold

    @property
    def data(self) -> str:
        """The mark of the data."""
        return self.members[0].data

    @property
    def logits(self) -> np.ndarray:
        """Logarithm of the mean probability, float32: its softmax at temperature 1 is that probability again."""
        return np.log(np.maximum(self.probability, LEAST_PROBABILITY)).astype(np.float32)


def read_member(recipe: str) -> Member | str:
    """The predictions of `recipe`, or the reason why it was not run. Raises StageError where they are missing."""
    path = Path(f"data/predictions/{recipe}.parquet")
    about = read_metadata(path)
    if "not_run" in about:
        return str(about["not_run"])
    rows = read_table(path).astype({"target": "int64"}).set_index("image_id")
    return Member(recipe, about["class_names"], about["protocol"], about["fold"], about["data"], rows)


def average(name: str, members: Sequence[Member]) -> Average:
    """The mean of what `members` (at least one) give each image that all of them predicted.

    Every member counts the same. Raises StageError where they are of different tasks, protocols or folds, or have no
    image in common.
    """
    first = members[0]
    for other in members[1:]:
        for what, one, two in (
            ("task", _task(first), _task(other)),
            ("protocol", first.protocol, other.protocol),
            ("fold", first.fold, other.fold),
        ):
            if one != two:
                raise StageError(
                    f"params.yaml: ensembles.{name}.members: {first.recipe} and {other.recipe} cannot be averaged, "
                    f"their {what} is {one} and {two}; name recipes of one task, protocol and fold"
                )
    shared = first.rows.index
    for other in members[1:]:
        shared = shared.intersection(other.rows.index)
    if shared.empty:
        named = ", ".join(f"{one.recipe} ({'+'.join(sorted(one.rows['source'].unique()))})" for one in members)
        raise StageError(f"params.yaml: ensembles.{name}.members: {named} predicted no image in common")
    rows = first.rows.loc[shared, ["case_id", "source", "split", "target"]].reset_index(names="image_id")
    rows = rows.sort_values(["split", "source", "image_id"], kind="stable", ignore_index=True)
    given = [one.probability.loc[rows["image_id"]].to_numpy(dtype=np.float64) for one in members]
    return Average(name, list(members), rows, np.mean(given, axis=0).astype(np.float32), _left_out(members, shared))


def _task(member: Member) -> str:
    return "binary" if member.class_names == list(LABELS) else "subtype"


def _left_out(members: Sequence[Member], shared: pd.Index) -> list[str]:
    """A line for each data set of which some member did not predict every image."""
    every = pd.concat([one.rows["source"] for one in members])
    every = every[~every.index.duplicated()]
    notes = []
    for source, images in every[~every.index.isin(shared)].groupby(every, sort=True):
        lacking = [one.recipe for one in members if not images.index.isin(one.rows.index).all()]
        notes.append(f"{len(images):,} images of {source} left out: {', '.join(lacking)} did not predict them")
    return notes
