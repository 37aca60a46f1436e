"""The quick check of all of params.yaml: `python -m stages`, or `python -m stages demo` to insist on that profile.

Each room checks its own section when it is entered; this looks at every section at once, so that a typo in the last
one does not wait for the first stage to finish, and at what only the whole can tell: keys that no room owns, recipes
whose protocol is not built, names of recipes that there are not, recipes that start from a model that nobody makes or
take values that nobody searches, searches that do not fit their recipes.
"""

import importlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from stages.contracts.errors import StageError
from stages.contracts.sections import Params, nearest, read_params, section
from stages.train.params import PARAMS_FILE
from stages.train.tune.params import search_faults

ROOMS = ("download", "merge", "validate", "index", "train", "evaluate", "compare")
OWNERS = (*ROOMS, "train.tune")
"""Of sections of params.yaml."""


def owned_sections() -> dict[str, Any]:
    """Pattern of dotted keys (`*` is any key) -> the type that its room reads it with, over all rooms.

    Two rooms may read one key; the first one's type checks it here.
    """
    owned: dict[str, Any] = {}
    for owner in OWNERS:
        for pattern, model in importlib.import_module(f"stages.{owner}.params").SECTIONS.items():
            owned.setdefault(pattern, model)
    return {"threads": int, **owned}


def faults(params: Params) -> list[str]:
    """Everything that is wrong with `params`, a line each: the key, its value, what is allowed."""
    owned = owned_sections()
    found = list(_unknown(params, [pattern.split(".") for pattern in owned], ""))
    for pattern, model in owned.items():
        try:
            for key in _expand(params, pattern):
                section(params, key, model)
        except StageError as error:
            found += str(error).splitlines()
    return list(dict.fromkeys(found)) or [
        *_mismatched_protocols(params),
        *_unknown_recipes(params),
        *_lost_starts(params),
        *_lost_values(params),
        *search_faults(params),
        *_mixed_ensembles(params),
    ]


def _expand(params: Params, pattern: str) -> list[str]:
    """The keys in `params` that `pattern` stands for."""
    keys = [""]
    for name in pattern.split("."):
        keys = [f"{key}.{one}".lstrip(".") for key in keys for one in (_names(params, key) if name == "*" else [name])]
    return keys


def _names(params: Params, key: str) -> list[str]:
    value = section(params, key, dict) if key else params
    return list(value)


def _unknown(value: Any, patterns: list[list[str]], where: str) -> Iterator[str]:
    """A line for each key that leads to no pattern."""
    if not isinstance(value, Mapping) or any(not pattern for pattern in patterns):
        return
    known = sorted({pattern[0] for pattern in patterns})
    for name, inner in value.items():
        matching = [pattern[1:] for pattern in patterns if pattern[0] in (name, "*")]
        if matching:
            yield from _unknown(inner, matching, f"{where}{name}.")
        else:
            yield f"params.yaml: {where}{name} is not a known key{nearest(str(name), known)}"


def _mismatched_protocols(params: Params) -> Iterator[str]:
    built = list(params["protocols"])
    used = {name: recipe["protocol"] for name, recipe in params["recipes"].items()}
    for name, protocol in used.items():
        if protocol not in built:
            yield f"params.yaml: recipes.{name}.protocol = {protocol!r} is not built; add it to protocols ({built})"
    for protocol in built:
        if protocol not in used.values():
            yield f"params.yaml: protocols names {protocol!r}, which no recipe uses; remove it"


def _lost_starts(params: Params) -> Iterator[str]:
    """A line for each recipe that starts from a model that no recipe makes before it."""
    parents = {name: recipe["start"].removeprefix("models/") for name, recipe in params["recipes"].items()}
    for name, recipe in params["recipes"].items():
        where, parent = f"params.yaml: recipes.{name}.start", parents[name]
        if not recipe["start"].startswith("models/"):
            continue
        if parent not in parents:
            yield f"{where} = 'models/{parent}' is no recipe's model{nearest(parent, list(parents))}"
        seen = [name]
        while parent in parents and parent not in seen:
            seen.append(parent)
            parent = parents[parent]
        if parent == name:
            yield f"{where}: {' starts from '.join([*seen, name])}; let one of them start from weights"


def _lost_values(params: Params) -> Iterator[str]:
    """A line for each recipe whose values no search of its own chooses."""
    for name, recipe in params["recipes"].items():
        where, own = f"params.yaml: recipes.{name}.values = {recipe['values']!r}", f"reports/tune/{name}.json"
        if recipe["values"] not in (PARAMS_FILE, own):
            yield f"{where} is the search of another recipe; set {PARAMS_FILE} or {own}"
        elif recipe["values"] == own and name not in params["tune"]:
            yield f"{where}, but there is no tune.{name}; add a search, or set values: {PARAMS_FILE}"


def _unknown_recipes(params: Params) -> Iterator[str]:
    recipes, ensembles = list(params["recipes"]), list(params["ensembles"])
    named = [("retrain.recipes", name) for name in params["retrain"]["recipes"]]
    for key, name in [*named, ("drift.recipe", params["drift"]["recipe"])]:
        if name in ensembles:
            yield f"params.yaml: {key} names {name!r}, an ensemble; a champion is one model, so name a recipe"
        elif name not in recipes:
            yield f"params.yaml: {key} names {name!r}, which is no recipe{nearest(name, recipes)}"


def _mixed_ensembles(params: Params) -> Iterator[str]:
    """A line for each ensemble whose name is taken, or whose members are no recipes or cannot be averaged."""
    recipes = params["recipes"]
    for name, ensemble in params["ensembles"].items():
        where, members = f"params.yaml: ensembles.{name}", ensemble["members"]
        if name in recipes:
            yield f"{where} has the name of a recipe, whose files it would overwrite; give it another one"
        strangers = [one for one in members if one not in recipes]
        yield from (
            f"{where}.members names {one!r}, which is no recipe{nearest(one, list(recipes))}" for one in strangers
        )
        if strangers:
            continue
        for key, other in (("task", None), ("protocol", ensemble["protocol"]), ("fold", None)):
            found = {one: recipes[one].get(key, 0) for one in members}
            if len({*found.values(), *([other] if other else [])}) > 1:
                said = ", ".join(f"{one} {value}" for one, value in found.items())
                beside = f" and it says {other}" if other else ""
                yield f"{where}.members differ in {key} ({said}){beside}; only recipes of one {key} can be averaged"
        if not set.intersection(*(set(recipes[one]["sources"]) for one in members)):
            yield f"{where}.members share no source, so there is no image that all of them predict"


def main(words: list[str]) -> int:
    """Check params.yaml, print what is wrong, and return the exit status."""
    try:
        params = read_params()
        found = faults(params)
        if not found and words and params["profile"] != words[0]:
            found = [f"params.yaml: profile is {params['profile']!r}, not {words[0]!r}; `make run` runs it as it is"]
    except StageError as error:
        found = [str(error)]
    if found:
        print("\n".join(f"error: {line}" for line in found), file=sys.stderr)
        return 1
    print(f"params.yaml: profile {params['profile']}, {len(params['recipes'])} recipes, all well")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
