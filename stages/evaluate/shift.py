"""Statistics of drift: how far a batch lies from a reference, and how far a batch of its size would lie by chance.

Images of a case resemble one another, so a handful of new cases always differs from a reference of hundreds, and fixed
limits alone would call every small batch drifted. The limit of each statistic is therefore the larger of the one in
params and the one that groups of as many reference cases, with as many images, exceed by chance.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

SMOOTHING = 0.5
"""Added to the count of every bin: an empty one would make the index infinite (Jeffreys' prior)."""

RARE = 0.01
"""Categories of a smaller share than this in the reference are one bin."""

GRID = 256
"""Quantiles of the reference on which the KS distance of groups of its own cases is taken."""

KINDS = ("psi", "ks")
"""Population stability index, Kolmogorov-Smirnov distance."""


@dataclass(frozen=True)
class Limits:
    """When a shift counts. psi, ks: the least that matters. false_alarm: chance that an unchanged batch is drifted."""

    psi: float
    ks: float
    false_alarm: float
    bins: int
    resamples: int
    seed: int


class Population(NamedTuple):
    """What is compared: the same columns of reference and batch, numbers or text. case: ids of the reference's rows."""

    reference: pd.DataFrame
    case: pd.Series
    batch: pd.DataFrame


@dataclass(frozen=True)
class Shift:
    """One statistic of one feature. limit: the larger of the two; by_chance: the one that cases alone explain."""

    feature: str
    kind: str
    value: float
    limit: float
    by_chance: float
    reference: float | None
    """Mean of the feature in the reference; None of categories."""
    batch: float | None

    @property
    def drifted(self) -> bool:
        """Beyond its limit."""
        return self.value > self.limit


def psi(batch: np.ndarray, reference: np.ndarray) -> float:
    """Population stability index of two rows of counts over the same bins, in nats.

    By convention below 0.1 means stable and above 0.25 shifted. SMOOTHING is added to each count.
    """
    one, other = ((counts + SMOOTHING) / (counts + SMOOTHING).sum() for counts in (batch, reference))
    return float(((one - other) * np.log(one / other)).sum())


class Feature:
    """One column of a reference, binned once, so that hundreds of groups of its rows can be compared quickly.

    Numbers are binned at quantiles of the reference; text is a category each. Only numbers have a KS statistic.
    """

    def __init__(self, name: str, reference: pd.Series, bins: int) -> None:
        self.name = name
        self.is_number = pd.api.types.is_numeric_dtype(reference)
        self._reference = reference.to_numpy()
        if self.is_number:
            self._edges = np.unique(np.quantile(self._reference, np.linspace(0, 1, bins + 1)[1:-1]))
        else:
            share = reference.value_counts(normalize=True)
            self._categories = pd.Index(sorted(share.index[share >= RARE]))
        self._codes = self._coded(reference)
        self._counts = np.bincount(self._codes, minlength=self._codes.max() + 2)
        grid = np.unique(np.quantile(self._reference, np.linspace(0, 1, GRID))) if self.is_number else np.empty(0)
        self._places = np.searchsorted(grid, self._reference, side="right") if self.is_number else self._codes
        self._at_place = np.bincount(self._places)

    @property
    def mean(self) -> float | None:
        """Of the reference; None of text."""
        return float(self._reference.mean()) if self.is_number else None

    def statistics(self, batch: pd.Series) -> tuple[float, float]:
        """PSI and KS of a batch against the reference; KS is NaN of text."""
        counts = np.bincount(self._coded(batch), minlength=len(self._counts))
        return psi(counts, self._counts), ks_distance(batch, self._reference) if self.is_number else np.nan

    def of_rows(self, group: np.ndarray, left_out: np.ndarray) -> tuple[float, float]:
        """The same of some of the reference's own rows, against its rows without those `left_out`.

        KS is taken on a grid of GRID quantiles, which finds up to 1 / GRID less than the whole does.
        """
        counts, without = (np.bincount(self._codes[rows], minlength=len(self._counts)) for rows in (group, left_out))
        if not self.is_number:
            return psi(counts, self._counts - without), np.nan
        here, gone = (np.bincount(self._places[rows], minlength=len(self._at_place)) for rows in (group, left_out))
        rest = self._at_place - gone
        distance = np.abs(here.cumsum() / here.sum() - rest.cumsum() / rest.sum()).max()
        return psi(counts, self._counts - without), float(distance)

    def _coded(self, values: pd.Series) -> np.ndarray:
        """The bin of each value, (n,) int; a category that is rare or unknown in the reference is in bin 0."""
        if self.is_number:
            return np.searchsorted(self._edges, values.to_numpy(), side="right")
        return self._categories.get_indexer(values) + 1


def ks_distance(batch: pd.Series, reference: np.ndarray) -> float:
    """Kolmogorov-Smirnov distance of two samples."""
    from scipy.stats import ks_2samp

    return float(ks_2samp(batch.to_numpy(), reference, method="asymp").statistic)


def shifts(populations: Sequence[Population], sizes: np.ndarray, limits: Limits) -> list[Shift]:
    """Every statistic of every feature of a batch. sizes: (cases,) images of each of its cases."""
    features, values, means, by_chance = [], [], [], []
    generator = np.random.default_rng(limits.seed)
    for reference, case, batch in populations:
        here = [Feature(str(name), reference[name], limits.bins) for name in reference]
        features += here
        values += [one.statistics(batch[one.name]) for one in here]
        means += [float(batch[one.name].mean()) if one.is_number else None for one in here]
        by_chance.append(_by_chance(here, case, sizes, limits.resamples, generator))
    chance = chance_limits(np.concatenate(by_chance, axis=1), limits.false_alarm).reshape(-1, len(KINDS)).tolist()
    least = {"psi": limits.psi, "ks": limits.ks}
    return [
        Shift(feature.name, kind, value, max(least[kind], limit), limit, feature.mean, mean)
        for feature, both, mean, of_chance in zip(features, values, means, chance, strict=True)
        for kind, value, limit in zip(KINDS, both, of_chance, strict=True)
        if not np.isnan(value)
    ]


def chance_limits(drawn: np.ndarray, false_alarm: float) -> np.ndarray:
    """Limits of many statistics at once, such that chance takes any of them over its limit in `false_alarm` of batches.

    drawn: (resamples, statistics) by chance; NaN where a feature has no such statistic. Each is set on the scale of its
    own mean and deviation, and the highest of a resample is what is limited (Westfall and Young, 1993): with a limit
    for each alone, one of twenty would raise an alarm every few days.
    """
    centre, spread = drawn.mean(axis=0), drawn.std(axis=0, ddof=1)
    scaled = np.divide(drawn - centre, spread, out=np.full_like(drawn, -np.inf), where=spread > 0)
    return centre + np.quantile(scaled.max(axis=1), 1 - false_alarm, method="higher") * spread


def _by_chance(
    features: Sequence[Feature], case: pd.Series, sizes: np.ndarray, resamples: int, generator: np.random.Generator
) -> np.ndarray:
    """The statistics of random groups of reference cases against all other rows: (resamples, features x kinds)."""
    code = pd.factorize(case, sort=True)[0]
    rows = np.split(np.argsort(code, kind="stable"), np.cumsum(np.bincount(code))[:-1])
    cases, wanted = len(rows), len(sizes)
    taken = min(wanted, cases // 2)
    # A group and the cases left beside it differ by more than a new batch and all cases do: PSI grows with the variance
    # of the difference, KS with its root, and that of a mean over cases with the inverse of their number.
    variance = (1 / wanted + 1 / cases) / (1 / taken + 1 / (cases - taken))
    scale = np.array([variance, variance**0.5])
    found = np.empty((resamples, len(features), len(KINDS)))
    for number in range(resamples):
        chosen = generator.choice(cases, taken, replace=False)
        many = generator.permutation(sizes)[:taken]
        left_out = [rows[one] for one in chosen]
        group = np.concatenate(
            [
                generator.choice(of_case, min(size, len(of_case)), replace=False)
                for of_case, size in zip(left_out, many, strict=True)
            ]
        )
        out = np.concatenate(left_out)
        found[number] = [np.array(feature.of_rows(group, out)) * scale for feature in features]
    return found.reshape(resamples, -1)
