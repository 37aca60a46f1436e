"""Fields of view as in BreakHis: eight subtypes, each with the architecture that pathologists know it by."""

from collections.abc import Callable

import numpy as np
from PIL import Image

from stages.download.anatomy import Temper, add_epithelium, add_lined, add_stroma, around
from stages.download.tissue import Canvas, coarse

PIXELS_PER_MICROMETRE = {40: 0.75, 100: 1.875, 200: 3.75, 400: 7.5}
"""So that a nucleus of 8 micrometres spans about as many pixels as in the published images (60 at 400)."""

DRAWN_SMALLER = 2
"""Images are drawn at half their size: four times quicker, and still finer than what merge stores."""


def draw_field(
    rng: np.random.Generator, temper: Temper, subtype: str, magnification: int, size: tuple[int, int]
) -> np.ndarray:
    """One field of view of a slide, uint8 (height, width, 3): `size` is (width, height); 40, 100, 200 or 400 times."""
    width, height = size
    scale = PIXELS_PER_MICROMETRE[magnification] / DRAWN_SMALLER
    canvas = Canvas(rng, height // DRAWN_SMALLER, width // DRAWN_SMALLER, scale)
    ARCHITECTURES[subtype](canvas, temper)
    image = Image.fromarray(canvas.render(temper.stain)).resize(size, Image.Resampling.BILINEAR)
    return coarse(np.asarray(image))


def _at_an_edge(canvas: Canvas, field: np.ndarray) -> np.ndarray:
    """Shift a field so that its zero, where structures meet, passes near the middle: who takes a picture aims at it."""
    middle = field[canvas.height // 2, canvas.width // 2]
    return field - 0.85 * middle if canvas.scale > 1 else field


def _tubules(
    canvas: Canvas, temper: Temper, *, spacing: float, lumen: float, aspect: float, wall: float, aligned: float = 0.5
) -> None:
    """Tubules about `spacing` apart, each with a cavity of half width `lumen` and a wall of one row of cells."""
    centres = canvas.points(spacing)
    short = lumen * np.exp(canvas.rng.normal(0, 0.35, len(centres)))
    depth = around(canvas, centres, short * aspect, short, margin=wall + 1, aligned=aligned)
    add_lined(canvas, temper, depth, wall, secretion=float(canvas.rng.choice([0.02, 0.02, 0.25])))


def _adenosis(canvas: Canvas, temper: Temper) -> None:
    add_stroma(canvas, temper, cells=26, looseness=0.15)
    _tubules(canvas, temper, spacing=58, lumen=9, aspect=1.3, wall=11)


def _fibroadenoma(canvas: Canvas, temper: Temper) -> None:
    add_stroma(canvas, temper, cells=18, looseness=0.35)
    _tubules(canvas, temper, spacing=130, lumen=4, aspect=10, wall=12, aligned=0.8)


def _phyllodes(canvas: Canvas, temper: Temper) -> None:
    add_stroma(canvas, temper, cells=14, looseness=0.25)
    leaves = _at_an_edge(canvas, canvas.clouds(150))
    add_lined(canvas, temper, (np.abs(leaves) - 0.13) * 75, 12, secretion=0.02)


def _tubular_adenoma(canvas: Canvas, temper: Temper) -> None:
    add_stroma(canvas, temper, cells=22, looseness=0.2)
    _tubules(canvas, temper, spacing=50, lumen=13, aspect=1.1, wall=10)


def _ductal(canvas: Canvas, temper: Temper) -> None:
    add_stroma(canvas, temper, cells=24, looseness=0.15)
    nests = _at_an_edge(canvas, canvas.clouds(75)) + 0.35 * canvas.clouds(22) > -0.25
    add_epithelium(canvas, temper, nests, temper.size * 1.18)


def _lobular(canvas: Canvas, temper: Temper) -> None:
    add_stroma(canvas, temper, cells=20, looseness=0.15)
    bend = 10 * canvas.clouds(120)
    ys, xs = np.mgrid[0 : canvas.height, 0 : canvas.width].astype(np.float32) / canvas.scale
    rank = (ys * np.cos(canvas.angle) - xs * np.sin(canvas.angle) + bend) % 20
    files = (rank < 11) & (canvas.clouds(40) > -0.7)
    add_epithelium(canvas, temper, files, temper.size * 1.25, tint=0.8)


def _mucinous(canvas: Canvas, temper: Temper) -> None:
    add_stroma(canvas, temper, cells=26, looseness=0.2)
    pools = _at_an_edge(canvas, canvas.clouds(170)) > -0.6
    wisps = (0.5 + 0.5 * canvas.clouds(9)).clip(0)
    canvas.hematoxylin = np.where(pools, 0.10 + 0.08 * wisps, canvas.hematoxylin)
    canvas.eosin = np.where(pools, 0.05 + 0.04 * wisps, canvas.eosin)
    canvas.nuclei[pools] = 0
    centres = canvas.points(80)
    half = canvas.rng.uniform(18, 38, len(centres))
    depth = around(canvas, centres, half * 1.3, half, margin=12.0)
    add_epithelium(canvas, temper, pools & (depth + 4 * canvas.clouds(14) < 0), temper.size * 1.18)


def _papillary(canvas: Canvas, temper: Temper) -> None:
    add_stroma(canvas, temper, cells=20, looseness=0.1)
    fronds = _at_an_edge(canvas, canvas.clouds(70)) + 0.3 * canvas.clouds(25) + 1.15
    add_lined(canvas, temper, fronds * 34, 60, secretion=0.02)


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
