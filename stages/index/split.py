"""The split as a mixed-integer program: each group to one part, every stratum as near to the wanted shares as it goes.

A pure function on a matrix of counts; it knows neither cases nor images. Why a program: scikit-learn's
StratifiedGroupKFold leaves two BreakHis subtypes without a test image, and a random draw does so more often.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, OptimizeResult, milp

from stages.contracts.errors import StageError

TOLERANCE = 0.002
"""A share this near to the wanted one is as good as exact. Without it the solver spends hours on the fourth decimal and
what it finds depends on when it is stopped; with it, 0.35 s and the same split under load and with four threads."""

POINTS = 100.0
"""Shares are given to the solver in points: the shares of single cases, as parts of 1, come near its own tolerances
(1e-6), and on a real sample it gave up with a numerical error."""

INFEASIBLE = 2
"""Status of scipy.optimize.milp. It has none for the node limit (HiGHS's "solution limit" comes out as 4, as numerical
trouble does), so that the gap that was reached tells which of the two ended the search."""


@dataclass(frozen=True)
class Demand:
    """At least `minimum` of the groups in `members` ((groups,) bool) must be in part number `part`."""

    name: str
    members: np.ndarray
    part: int
    minimum: int


@dataclass(frozen=True)
class Search:
    """The search stops within `gap` (relative) of the best possible, or after `node_limit` nodes. Never by time."""

    gap: float
    node_limit: int


@dataclass(frozen=True)
class Division:
    """The answer. part: (groups,) int. lowered: demands that could not be met, with the minimum that could be."""

    part: np.ndarray
    gap: float
    nodes: int
    node_limit_reached: bool
    lowered: tuple[tuple[Demand, int], ...]


def divide(
    counts: np.ndarray,
    ratios: Sequence[float],
    demands: Sequence[Demand],
    fixed: Mapping[int, int],
    *,
    search: Search,
    rng: np.random.Generator,
) -> Division:
    """Part the groups so that the shares of all images and of every stratum lie near `ratios`, and `demands` hold.

    counts: (groups, strata) int, images of each stratum in each group; every group and stratum has some. ratios:
    (parts,), sums to 1. fixed: group -> part for groups that have no choice. rng shuffles the groups before the solver
    sees them, and so picks one among splits that are equally good to within the gap.

    Minimises the sum, over all images and each stratum, of |share in a part - ratio|, each counted from TOLERANCE up.
    Demands that contradict one another or `fixed` are lowered by as little as possible and reported. Raises StageError
    if the node limit ends the search before any split was found.
    """
    order = rng.permutation(len(counts))
    program = _Program(counts[order], np.asarray(ratios, dtype=float))
    shuffled = [replace(demand, members=demand.members[order]) for demand in demands]
    lower = np.zeros((len(counts), len(ratios)))
    for group, part in fixed.items():
        lower[np.flatnonzero(order == group)[0], part] = 1
    answer = program.solve(shuffled, lower, search)
    lowered: tuple[tuple[Demand, int], ...] = ()
    if answer.status == INFEASIBLE:
        affordable = program.affordable(shuffled, lower, search)
        lowered = tuple((a, b.minimum) for a, b in zip(demands, affordable, strict=True) if b.minimum < a.minimum)
        answer = program.solve(affordable, lower, search)
    part = np.empty(len(counts), dtype=int)
    part[order] = program.chosen(answer)
    return Division(
        part=part,
        gap=float(answer.mip_gap),
        nodes=int(answer.mip_node_count),
        node_limit_reached=bool(answer.mip_gap > search.gap),
        lowered=lowered,
    )


class _Program:
    """The variables: x[group, part] in {0, 1}, then a deviation for each (row, part); row 0 is all images."""

    def __init__(self, counts: np.ndarray, ratios: np.ndarray) -> None:
        rows = np.column_stack([counts.sum(axis=1), counts]).astype(float)
        self.shares = POINTS * (rows / rows.sum(axis=0)).T
        self.ratios = POINTS * ratios
        self.groups, self.parts = len(counts), len(ratios)
        self.choices = self.groups * self.parts
        self.deviations = len(self.shares) * self.parts

    def solve(self, demands: Sequence[Demand], lower: np.ndarray, search: Search) -> OptimizeResult:
        """Minimise the deviations under the demands."""
        in_part = sparse.kron(sparse.csr_matrix(self.shares), sparse.identity(self.parts))
        deviation = sparse.identity(self.deviations)
        wanted = np.tile(self.ratios, len(self.shares))
        constraints = [
            self._once_each(self.deviations),
            LinearConstraint(sparse.hstack([in_part, -deviation]).tocsr(), -np.inf, wanted),
            LinearConstraint(sparse.hstack([in_part, deviation]).tocsr(), wanted, np.inf),
            LinearConstraint(self._members(demands, self.deviations), _minima(demands), np.inf),
        ]
        return milp(
            np.r_[np.zeros(self.choices), np.ones(self.deviations)],
            integrality=np.r_[np.ones(self.choices), np.zeros(self.deviations)],
            bounds=Bounds(
                np.r_[lower.ravel(), np.full(self.deviations, POINTS * TOLERANCE)],
                np.r_[np.ones(self.choices), np.full(self.deviations, POINTS)],
            ),
            constraints=constraints,
            options=_options(search),
        )

    def affordable(self, demands: Sequence[Demand], lower: np.ndarray, search: Search) -> list[Demand]:
        """The demands, lowered by as little in all as makes them possible together."""
        met = sparse.hstack([self._members(demands, 0), sparse.identity(len(demands))]).tocsr()
        answer = milp(
            np.r_[np.zeros(self.choices), np.ones(len(demands))],
            integrality=np.ones(self.choices + len(demands)),
            bounds=Bounds(np.r_[lower.ravel(), np.zeros(len(demands))], np.r_[np.ones(self.choices), _minima(demands)]),
            constraints=[self._once_each(len(demands)), LinearConstraint(met, _minima(demands), np.inf)],
            options=_options(search),
        )
        chosen = self.chosen(answer)
        reached = [int(np.sum(demand.members & (chosen == demand.part))) for demand in demands]
        return [replace(d, minimum=min(d.minimum, count)) for d, count in zip(demands, reached, strict=True)]

    def chosen(self, answer: OptimizeResult) -> np.ndarray:
        """(groups,) int: the part of each group in a solver's answer."""
        if answer.x is None:
            raise StageError(
                f"no split was found ({answer.message}); in params.yaml, raise index.node_limit or choose another "
                "index.seed, which shuffles the cases before the search"
            )
        return answer.x[: self.choices].reshape(self.groups, self.parts).argmax(axis=1)

    def _once_each(self, others: int) -> LinearConstraint:
        """Each group is in exactly one part; the `others` variables that follow have no say."""
        sums = sparse.kron(sparse.identity(self.groups), np.ones((1, self.parts)))
        return LinearConstraint(sparse.hstack([sums, sparse.csr_matrix((self.groups, others))]).tocsr(), 1, 1)

    def _members(self, demands: Sequence[Demand], others: int) -> sparse.csr_matrix:
        """(demands, variables): counts a demand's members in its part."""
        rows = np.zeros((len(demands), self.groups, self.parts))
        for row, demand in zip(rows, demands, strict=True):
            row[demand.members, demand.part] = 1
        choices = sparse.csr_matrix(rows.reshape(len(demands), self.choices))
        return sparse.hstack([choices, sparse.csr_matrix((len(demands), others))]).tocsr()


def _minima(demands: Sequence[Demand]) -> np.ndarray:
    return np.array([demand.minimum for demand in demands], dtype=float)


def _options(search: Search) -> dict[str, Any]:
    """A fresh dict for each call: milp takes node_limit out of the one it is given."""
    return {"mip_rel_gap": search.gap, "node_limit": search.node_limit}
