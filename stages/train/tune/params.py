"""What a search may say, and what each profile may change of it."""

from collections.abc import Iterator
from itertools import product
from math import exp, log
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, ValidationError, model_validator

from stages.contracts.sections import Params, Profile, Protocol, Section, nearest, section
from stages.train.choices import Budget, Side
from stages.train.params import Recipe, Select, TrainProfile, within_budget

Value = int | float | bool | str
Point = dict[str, Value]
"""A value for each axis of a space."""

Name = Literal[
    "accumulate", "batch_size", "class_weights", "clip", "cutmix", "decay", "dropout", "ema", "focal_gamma", "freeze",
    "label_smoothing", "loss", "lr", "mixup", "optimizer", "precision", "sampler", "schedule", "warmup",
    "weight_decay",
]  # fmt: skip
"""Fields of a recipe that can be searched: not those that say what is learned, from what, or for how long."""


class Axis(Section):
    """The values that one field may take: a list of them, or a range."""

    values: Annotated[list[Value], Field(min_length=1)] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    """Spread evenly over the logarithm."""
    points: Annotated[int, Field(ge=2)] | None = None
    """Of a grid, both ends included."""

    @model_validator(mode="before")
    @classmethod
    def _listed(cls, said: Any) -> Any:
        return {"values": said} if isinstance(said, list) else said

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.values is not None:
            if (self.low, self.high, self.points) != (None, None, None) or self.log:
                raise ValueError("a list of values has no range; leave one of them out")
            if len({str(value) for value in self.values}) != len(self.values):
                raise ValueError("a value is listed twice")
        elif self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("expected a list of values, or a range: {low: 0.001, high: 0.1, log: true}")
        elif self.log and self.low <= 0:
            raise ValueError("log needs a low above 0")
        return self

    def at(self, share: float) -> float:
        """The value at a share of the way from low to high, six significant places."""
        if self.log:
            value = exp(log(self.low) + share * (log(self.high) - log(self.low)))
        else:
            value = self.low + share * (self.high - self.low)
        return float(f"{value:.6g}")


class Round(Section):
    """A part of a search: it begins with what the rounds before it have chosen."""

    sampler: Literal["grid", "tpe"]
    """grid tries every point of its space once. tpe learns from what it has tried where to look: the tree-structured
    Parzen estimator of Bergstra and others (NeurIPS 2011) as Optuna has it."""
    space: Annotated[dict[Name, Axis], Field(min_length=1)]
    trials: PositiveInt | None = None
    """Of tpe; a grid has as many as points."""
    prune: bool = False
    """End a trial after an epoch, from the second on, in which its best figure so far is below the median of the others
    at that epoch."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.trials is None) == (self.sampler == "tpe"):
            raise ValueError("tpe needs its number of `trials`" if self.trials is None else "a grid has no `trials`")
        for name, axis in self.space.items():
            if self.sampler == "grid" and axis.values is None and axis.points is None:
                raise ValueError(f"a grid needs the `points` of {name}, or a list of values")
            if self.sampler == "tpe" and axis.points is not None:
                raise ValueError(f"`points` of {name} belong to a grid")
        return self


class TuneProfile(Section):
    """What a profile changes of every search; null changes nothing."""

    trials: PositiveInt | None = None
    """Most trials of a tpe round."""
    points: PositiveInt | None = None
    """Most points of each axis of a grid: of as many equal parts of it, the middle ones."""
    epochs: PositiveInt | None = None
    """Of a trial."""
    image_size: Side | None = None
    """Of a trial."""


class Search(Section):
    """How the values of one recipe are searched, on its train part, judged by its val part."""

    protocol: Protocol
    start: str
    """Both are the recipe's; they stand here because dvc.yaml uses them."""
    select: Select
    """Figure of the best epoch by which trials are compared."""
    seed: Annotated[int, Field(ge=0)] = 20260101
    rounds: Annotated[list[Round], Field(min_length=1)]
    budget: dict[Profile, TuneProfile] = Field(default_factory=dict)
    """What a profile changes of this search; it goes before what it changes of all."""


def within_means(search: Search, profile: Profile, common: TuneProfile) -> TuneProfile:
    """What a profile changes of one search. common: of every search."""
    own = search.budget.get(profile, TuneProfile())
    return common.model_copy(update=own.model_dump(exclude_none=True))


def thinned(one: Round, profile: TuneProfile) -> Round:
    """The round as a profile runs it; of a grid, its axes as lists."""
    if one.sampler == "tpe":
        return one.model_copy(update={"trials": min(one.trials, profile.trials or one.trials)})
    return one.model_copy(
        update={"space": {name: Axis(values=_spread(axis, profile.points)) for name, axis in one.space.items()}}
    )


def _spread(axis: Axis, most: int | None) -> list[Value]:
    values = axis.values or [axis.at(place / (axis.points - 1)) for place in range(axis.points)]
    if most is None or len(values) <= most:
        return values
    return [values[(2 * place + 1) * len(values) // (2 * most)] for place in range(most)]


def grid_points(one: Round) -> list[Point]:
    """Every point of a thinned grid, the last axis running fastest."""
    return [dict(zip(one.space, values, strict=True)) for values in product(*(a.values for a in one.space.values()))]


def trial_recipe(recipe: Recipe, search: Search, profile: Profile, common: TrainProfile, tune: TuneProfile) -> Recipe:
    """The recipe as a trial trains it."""
    least = within_budget(recipe, profile, common)
    said = {"epochs": tune.epochs or least.epochs, "image_size": tune.image_size or least.image_size}
    changed = recipe.model_copy(update={"budget": {profile: Budget(**said)}, "select": search.select})
    return within_budget(Recipe.model_validate(changed.model_dump()), profile, common)


def search_faults(params: Params) -> Iterator[str]:
    """A line for each search that does not fit its recipe. params: each section by itself is well."""
    recipes = params["recipes"]
    for name, said in params["tune"].items():
        where = f"params.yaml: tune.{name}"
        if name not in recipes:
            yield f"{where} is the search of no recipe{nearest(name, list(recipes))}"
            continue
        for key in ("protocol", "start"):
            if said[key] != recipes[name][key]:
                yield f"{where}.{key} = {said[key]!r}, but the recipe's is {recipes[name][key]!r}; make them equal"
        for number, one in enumerate(section(params, f"tune.{name}", Search).rounds):
            yield from _misfits(f"{where}.rounds.{number}.space", recipes[name], one)


def _misfits(where: str, recipe: dict[str, Any], one: Round) -> Iterator[str]:
    """A line for the first point of a space that makes no recipe."""
    for point in _looked_at(one):
        try:
            Recipe.model_validate({**recipe, **point})
        except ValidationError as error:
            fault = error.errors()[0]
            at = ", ".join(f"{key} {value}" for key, value in point.items())
            yield f"{where}: {fault['msg'].removeprefix('Value error, ')} (at {at})"
            return


def _looked_at(one: Round) -> Iterator[Point]:
    """Every point of a grid; of ranges, where there are endless ones, the ends and a number that is not round."""
    if one.sampler == "grid":
        yield from grid_points(thinned(one, TuneProfile()))
        return
    axes = {name: axis.values or [axis.at(share) for share in (0, 0.618, 1)] for name, axis in one.space.items()}
    first = {name: values[0] for name, values in axes.items()}
    yield from ({**first, name: value} for name, values in axes.items() for value in values)


SECTIONS: dict[str, Any] = {
    "tune.*": Search,
    "profiles.*.tune": TuneProfile,
    "tune_dir": Path | None,
}
