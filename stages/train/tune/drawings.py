"""The figures of a search: the validation figure over one axis, over two, or from trial to trial."""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

from stages.train.params import Select
from stages.train.tune.params import Value

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from stages.train.tune.search import Sought, Tried

BLUE, RED, GREY = "#0b6e99", "#c2410c", "#64748b"
STYLE = {
    "svg.hashsalt": "stroma",  # else ids inside the SVG are random
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "axes.grid": False,
}
LABELS = {"freeze": "frozen share of the layers", "lr": "learning rate", "decay": "decay of the rate per epoch"}
SELECTS: dict[Select, str] = {
    "val_accuracy": "validation accuracy",
    "val_balanced_accuracy": "validation balanced accuracy",
    "val_auroc": "validation AUROC",
    "val_loss": "validation loss",
}
MOST_NOTED = 100
"""Cells of a heat map that are large enough for a number."""


def drawn(sought: "Sought", recipe: str, select: Select, profile: str) -> dict[str, str]:
    """Name -> SVG: of a grid over one or two axes its values, of all else the trials in their order."""
    title = f"{recipe} ({profile})" if profile == "demo" else recipe
    axes = list(sought.round.space)
    if sought.round.sampler == "grid" and len(axes) == 1:
        return {axes[0]: _svg(lambda on: _line(on, sought, axes[0], select, title))}
    if sought.round.sampler == "grid" and len(axes) == 2:
        return {"-".join(axes): _svg(lambda on: _map(on, sought, axes, select, title))}
    return {"trials": _svg(lambda on: _trials(on, sought.trials, select, title))}


def _line(on: "Axes", sought: "Sought", axis: str, select: Select, title: str) -> None:
    """The figure by the one value that was searched."""
    values = sought.round.space[axis].values
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    order = sorted(range(len(values)), key=lambda place: values[place]) if numbers else range(len(values))
    known = [place for place in order if sought.trials[place].value is not None]
    across = [values[place] if numbers else str(values[place]) for place in known]
    on.plot(across, [sought.trials[place].value for place in known], "-o", color=BLUE, markersize=3.5)
    best = sought.best.point[axis]
    on.plot([best if numbers else str(best)], [sought.best.value], "o", color=RED, label=f"chosen: {_short(best)}")
    if axis == "lr":
        on.set_xscale("log")
    on.set(xlabel=LABELS.get(axis, axis), ylabel=SELECTS[select], title=title)
    on.legend(loc="best")


def _map(on: "Axes", sought: "Sought", axes: list[str], select: Select, title: str) -> None:
    """The figure by both values, the chosen one framed; grey: pruned or diverged."""
    import numpy as np
    from matplotlib.patches import Rectangle

    rows, columns = (sought.round.space[axis].values for axis in axes)
    complete = [trial.value if trial.state == "complete" else np.nan for trial in sought.trials]
    values = np.array(complete, dtype=float).reshape(len(rows), len(columns))
    on.set_facecolor("#cbd5e1")
    shown = on.imshow(values, cmap="Blues", aspect="auto")
    middle = (np.nanmin(values) + np.nanmax(values)) / 2
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value) and values.size <= MOST_NOTED:
            colour = "white" if value > middle else "black"
            on.text(column, row, f"{value:.3f}", ha="center", va="center", color=colour)
    at = rows.index(sought.best.point[axes[0]]), columns.index(sought.best.point[axes[1]])
    on.add_patch(Rectangle((at[1] - 0.5, at[0] - 0.5), 1, 1, fill=False, edgecolor=RED, linewidth=2))
    on.set_yticks(range(len(rows)), [_short(value) for value in rows])
    on.set_xticks(range(len(columns)), [_short(value) for value in columns], rotation=45 if len(columns) > 6 else 0)
    across = LABELS.get(axes[1], axes[1]) + (" (grey: given up)" if np.isnan(values).any() else "")
    on.set(ylabel=LABELS.get(axes[0], axes[0]), xlabel=across, title=title)
    on.figure.colorbar(shown, ax=on, label=SELECTS[select])


def _trials(on: "Axes", trials: "list[Tried]", select: Select, title: str) -> None:
    """Each trial's figure, and the best so far."""
    from matplotlib.ticker import MaxNLocator

    better = min if select == "val_loss" else max
    for state, marker, colour in (("complete", "o", BLUE), ("pruned", "x", GREY)):
        some = [
            (place, one.value) for place, one in enumerate(trials, 1) if one.state == state and one.value is not None
        ]
        if some:
            on.plot(*zip(*some, strict=True), marker, color=colour, markersize=4, label=state)
    complete = [(place, one.value) for place, one in enumerate(trials, 1) if one.state == "complete"]
    best = [(place, better(value for _, value in complete[: many + 1])) for many, (place, _) in enumerate(complete)]
    on.step(*zip(*best, (len(trials), best[-1][1]), strict=True), where="post", color=RED, label="best so far")
    on.set(xlabel="trial", ylabel=SELECTS[select], title=title)
    on.xaxis.set_major_locator(MaxNLocator(integer=True))
    on.legend(loc="best")


def _short(value: Value) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _svg(draw: "Callable[[Axes], None]") -> str:
    """A figure of one pair of axes, without anything that tells when or with what it was made."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE}):
        figure = Figure(figsize=(5.2, 3.6), layout="constrained")
        draw(figure.subplots())
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}'
