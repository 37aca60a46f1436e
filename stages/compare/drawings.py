"""Draws the plots of the report as SVG that is the same bytes in every run."""

import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Rectangle

COLOURS = ("#0b6e99", "#c2410c", "#6d28d9", "#15803d", "#be185d", "#854d0e", "#334155", "#0f766e")
"""Each at least 4.5:1 against white; taken in order, beside a line style for those who do not tell colours apart."""
DASHES = ("-", "--", "-.", ":")
NAMES = {"idc": "IDC", "breakhis": "BreakHis"}

STYLE = {
    "svg.hashsalt": "stroma",  # else ids inside the SVG are random
    "svg.fonttype": "none",  # text stays text: smaller, and found by a search of the page
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#94a3b8",
    "axes.labelcolor": "#334155",
    "xtick.color": "#475569",
    "ytick.color": "#475569",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}

HEIGHT = 3.2
SQUARE = (0.68, 0.5, 2.4, 2.4)
BROAD = (0.6, 0.98, 2.65, 1.92)
"""Places of the axes, inches: set by hand, for to let matplotlib find them draws each of a hundred figures three times.
Below BROAD there is room for a legend of two lines."""

Lines = Mapping[str, pd.DataFrame]


def roc(lines: Lines, title: str) -> str:
    """ROC curves, one for each table (false_positive_rate, sensitivity), which is named with its AUROC."""

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color="#cbd5e1", linewidth=1)
        _lines(axes, lines, "false_positive_rate", "sensitivity")
        _unit(axes, "1 − specificity", "sensitivity", title)
        axes.legend(loc="lower right", title="AUROC", alignment="left")

    return _svg(draw, 3.4, SQUARE)


def roc_beside(lines: Lines, title: str) -> str:
    """The same of many, their names beside the axes, where they hide nothing."""

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color="#cbd5e1", linewidth=1)
        _lines(axes, lines, "false_positive_rate", "sensitivity")
        _unit(axes, "1 − specificity", "sensitivity", "")
        axes.set_title(title, loc="left")  # long, and the legend leaves it room on the right
        axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8, title="AUROC", alignment="left")

    return _svg(draw, 3.7 + 0.07 * max(map(len, lines)), SQUARE)


def precision_recall(lines: Lines, title: str) -> str:
    """Precision-recall curves, one for each named table (recall, precision)."""

    def draw(axes: "Axes") -> None:
        _lines(axes, lines, "recall", "precision")
        _unit(axes, "recall", "precision", title)
        axes.legend(loc="lower left")

    return _svg(draw, 3.4, SQUARE)


def calibration(lines: Lines, title: str) -> str:
    """Share malignant against predicted probability, one line for each named table (predicted, observed)."""

    def draw(axes: "Axes") -> None:
        axes.plot([0, 1], [0, 1], color="#cbd5e1", linewidth=1)
        _lines(axes, lines, "predicted", "observed", marker="o")
        _unit(axes, "mean predicted P(malignant)", "share malignant", title)
        axes.legend(loc="upper left")

    return _svg(draw, 3.4, SQUARE)


def confusion(table: pd.DataFrame, title: str) -> str:
    """A confusion matrix: counts, shaded by the share of the actual class (actual, predicted, count, share)."""
    names = list(dict.fromkeys(table["actual"]))
    counts = table["count"].to_numpy().reshape(len(names), len(names))
    shares = table["share"].fillna(0).to_numpy().reshape(len(names), len(names))

    def draw(axes: "Axes") -> None:
        for row in range(len(names)):
            for column in range(len(names)):
                # Rectangles rather than an image: imshow would put a PNG inside the SVG.
                axes.add_patch(_tile(column, row, shares[row, column]))
                ink = "white" if shares[row, column] > 0.55 else "#0f172a"
                text = f"{counts[row, column]:,}"
                axes.text(column, row, text, ha="center", va="center", color=ink, size=9 if len(names) == 2 else 7)
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names, rotation=90 if len(names) == 2 else 0, va="center")
        edge = len(names) - 0.5
        axes.set(xlabel="predicted", ylabel="actual", title=title, xlim=(-0.5, edge), ylim=(edge, -0.5), aspect="equal")
        axes.tick_params(length=0)

    return _svg(draw, 3.4, SQUARE)


def loss(curves: pd.DataFrame, best_epoch: int, title: str) -> str:
    """Loss of train and val by epoch, the kept epoch marked."""

    def draw(axes: "Axes") -> None:
        _epochs(axes, curves, ("train_loss", "val_loss"), best_epoch)
        axes.set(ylabel="loss", title=title)
        axes.set_ylim(bottom=0)

    return _svg(draw, 3.4, BROAD)


def accuracy(curves: pd.DataFrame, best_epoch: int, title: str) -> str:
    """Accuracy of train and val by epoch, with balanced accuracy and AUROC of val, the kept epoch marked."""

    def draw(axes: "Axes") -> None:
        columns = ("train_accuracy", "val_accuracy", "val_balanced_accuracy", "val_auroc")
        _epochs(axes, curves, columns, best_epoch)
        axes.set(ylim=(0, 1.02), ylabel="score", title=title)

    return _svg(draw, 3.4, BROAD)


def _epochs(axes: "Axes", curves: pd.DataFrame, columns: Sequence[str], best_epoch: int) -> None:
    from matplotlib.ticker import MaxNLocator

    for place, column in enumerate(columns):
        # A training of one epoch is a point, of which a line would show nothing.
        axes.plot(
            curves["epoch"], curves[column], DASHES[place], color=COLOURS[place], label=_spoken(column),
            marker="o", markersize=2.5,
        )  # fmt: skip
    axes.axvline(best_epoch, color="#94a3b8", linewidth=1)
    axes.set_xlabel(f"epoch (kept: {best_epoch})")
    axes.set_xlim(0.5, len(curves) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.legend(loc="upper center", bbox_to_anchor=(0.47, -0.22), ncols=2, fontsize=8, columnspacing=1.2)


def _spoken(column: str) -> str:
    return column.replace("_", " ").replace("auroc", "AUROC")


def _tile(x: float, y: float, share: float) -> "Rectangle":
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colormaps["Blues"](0.05 + 0.85 * share), edgecolor="white")


def _lines(axes: "Axes", lines: Lines, x: str, y: str, marker: str | None = None) -> None:
    for place, (name, table) in enumerate(lines.items()):
        # With each round of the colours the dashes move on by one, so that no two of 32 lines look the same.
        dash = DASHES[(place + place // len(COLOURS)) % len(DASHES)]
        axes.plot(
            table[x], table[y], dash, color=COLOURS[place % len(COLOURS)],
            label=name, marker=marker, markersize=3.5,
        )  # fmt: skip


def _unit(axes: "Axes", x: str, y: str, title: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=x, ylabel=y, title=title, aspect="equal")
    ticks: Sequence[float] = (0, 0.25, 0.5, 0.75, 1)
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)


def _svg(draw: "Callable[[Axes], None]", width: float, box: tuple[float, float, float, float]) -> str:
    """A figure of one pair of axes as an `<svg>` element, without prolog and without metadata.

    width: inches. box: left, bottom, width and height of the axes in it, inches.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    left, bottom, across, up = box
    with mpl.rc_context({**mpl.rcParamsDefault, **STYLE}):
        figure = Figure(figsize=(width, HEIGHT))
        draw(figure.add_axes((left / width, bottom / HEIGHT, across / width, up / HEIGHT)))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    return re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
