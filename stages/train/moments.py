"""All that is random in one step, drawn from (seed, epoch, step) and so without a state that could be lost."""

from dataclasses import dataclass

from stages.train.augment import Draws, drawn
from stages.train.mixing import Mixing, drawn_mixing
from stages.train.params import Recipe
from stages.train.sampling import generator


@dataclass(frozen=True)
class Moment:
    """All that is random in one step."""

    seed: int
    """Of dropout and the like."""
    draws: Draws
    mixing: Mixing | None


def moment(recipe: Recipe, epoch: int, step: int, images: int) -> Moment:
    """The draws of one step for its images; they need no state to be resumed."""
    own = generator(recipe.seed, epoch, step)
    seed = int(own.integers(2**63))
    return Moment(seed, drawn(recipe.augment, images, own), drawn_mixing(recipe, images, own))
