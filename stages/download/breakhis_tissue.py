"""Fields of view as in BreakHis: eight subtypes, each with the architecture that pathologists know it by."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from stages.download.anatomy import Temper, add_epithelium, add_lined, add_stroma, around
from stages.download.tissue import Canvas

PIXELS_PER_MICROMETRE = {40: 0.75, 100: 1.875, 200: 3.75, 400: 7.5}
"""So that a nucleus of 8 micrometres spans about as many pixels as in the published images (60 at 400)."""

DRAWN_SMALLER = 2
"""Images are drawn at half their size: four times quicker, and still finer than what merge stores."""


def draw_field(
    rng: np.random.Generator, temper: Temper, subtype: str, magnification: int, height: int, width: int
) -> Image.Image:
    """One field of view of a slide: RGB, `width` x `height`, at 40, 100, 200 or 400 times."""
    scale = PIXELS_PER_MICROMETRE[magnification] / DRAWN_SMALLER
    canvas = Canvas(rng, height // DRAWN_SMALLER, width // DRAWN_SMALLER, scale)
    ARCHITECTURES[subtype](canvas, temper)
    small = canvas.render(temper.stain, mottle=max(scale, 0.5))
    return Image.fromarray(small).resize((width, height), Image.Resampling.BILINEAR)


def _glands(canvas: Canvas, temper: Temper, spacing: float, lumen: float, aspect: float, wall: float) -> None:
    """Tubules about `spacing` apart, each with a cavity of half width `lumen` and a wall of one row of cells."""
    centres = canvas.points(spacing)
    short = lumen * np.exp(canvas.rng.normal(0, 0.35, len(centres)))
    turn = canvas.rng.normal(canvas.angle, 0.5, len(centres))
    depth = around(canvas, centres, short * aspect, short, turn, wall + 20)
    add_lined(canvas, temper, depth, wall, secretion=float(canvas.rng.choice([0.02, 0.02, 0.25])))


def _adenosis(canvas: Canvas, temper: Temper) -> None:
    add_stroma(canvas, temper, cells=26, looseness=0.15)
    _glands(canvas, temper, spacing=48, lumen=6, aspect=1.3, wall=11)


def _fibroadenoma(canvas: Canvas, temper: Temper) -> None:
    add_stroma(canvas, temper, cells=17, looseness=0.45)
    _glands(canvas, temper, spacing=135, lumen=4, aspect=14, wall=12)


def _phyllodes(canvas: Canvas, temper: Temper) -> None:
    add_stroma(canvas, temper, cells=12, looseness=0.35)
    leaves = canvas.clouds(150)
    add_lined(canvas, temper, (np.abs(leaves) - 0.13) * 75, 12, secretion=0.02)


def _tubular_adenoma(canvas: Canvas, temper: Temper) -> None:
    add_stroma(canvas, temper, cells=22, looseness=0.2)
    _glands(canvas, temper, spacing=50, lumen=13, aspect=1.1, wall=10)


def _ductal(canvas: Canvas, temper: Temper) -> None:
    add_stroma(canvas, temper, cells=24, looseness=0.1)
    nests = canvas.clouds(75) + 0.35 * canvas.clouds(22) > 0.05
    add_epithelium(canvas, temper, nests, temper.size * 1.18)


def _lobular(canvas: Canvas, temper: Temper) -> None:
    add_stroma(canvas, temper, cells=24, looseness=0.25)
    bend = 10 * canvas.clouds(120)
    ys, xs = np.mgrid[0 : canvas.height, 0 : canvas.width] / canvas.scale
    rank = (ys * np.cos(canvas.angle) - xs * np.sin(canvas.angle) + bend) % 27
    files = (rank < 9) & (canvas.clouds(40) > -0.5)
    add_epithelium(canvas, temper, files, temper.size * 1.25)


def _mucinous(canvas: Canvas, temper: Temper) -> None:
    add_stroma(canvas, temper, cells=26, looseness=0.2)
    pools = canvas.clouds(170) > -0.7
    wisps = (0.5 + 0.5 * canvas.clouds(9)).clip(0)
    canvas.hematoxylin = np.where(pools, 0.10 + 0.08 * wisps, canvas.hematoxylin).astype(np.float32)
    canvas.eosin = np.where(pools, 0.05 + 0.04 * wisps, canvas.eosin).astype(np.float32)
    canvas.nuclei[pools] = 0
    centres = canvas.points(105)
    half = canvas.rng.uniform(14, 36, len(centres))
    depth = around(canvas, centres, half * 1.3, half, canvas.rng.uniform(0, 3, len(centres)), 30.0)
    add_epithelium(canvas, temper, pools & (depth + 4 * canvas.clouds(14) < 0), temper.size * 1.18)


def _papillary(canvas: Canvas, temper: Temper) -> None:
    add_stroma(canvas, temper, cells=22, looseness=0.2)
    fronds = (canvas.clouds(85) + 0.25 * canvas.clouds(25) + 0.35) * 42
    add_lined(canvas, temper, fronds, 26, secretion=0.02)


ARCHITECTURES: dict[str, Callable[[Canvas, Temper], None]] = {
    "A": _adenosis,
    "F": _fibroadenoma,
    "PT": _phyllodes,
    "TA": _tubular_adenoma,
    "DC": _ductal,
    "LC": _lobular,
    "MC": _mucinous,
    "PC": _papillary,
}
