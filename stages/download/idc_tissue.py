"""Slides as in IDC: tumour growing into fat, stroma and glands, at the low magnification of that data set."""

import numpy as np

from stages.download.anatomy import Temper, add_epithelium, add_fat, add_lined, add_stroma, around
from stages.download.tissue import Canvas, clouds, coarse

PIXELS_PER_MICROMETRE = 0.25


def draw_slide(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """One case: its slide, uint8 (height, width, 3), and where its tumour lies, bool (height, width)."""
    temper = Temper.drawn(rng, malignant=True)
    canvas = Canvas(rng, height, width, PIXELS_PER_MICROMETRE)
    share = rng.beta(0.9, 1.9)
    growth = canvas.clouds(480) + 0.15 * canvas.clouds(90)
    tumour = growth > np.quantile(growth, 1 - share)
    add_stroma(canvas, temper, cells=rng.uniform(30, 55), looseness=rng.uniform(0, 0.5))
    fat = (canvas.clouds(350) + rng.normal(0, 0.5) > 0.75) & ~(tumour & (canvas.clouds(60) > -1.2))
    add_fat(canvas, fat)
    _add_lobules(canvas, temper, ~tumour & ~fat)
    _add_tumour(canvas, temper, tumour)
    return coarse(canvas.render(temper.stain)), tumour


def _add_lobules(canvas: Canvas, temper: Temper, where: np.ndarray) -> None:
    """Benign glands in clusters, and lymphocytes: purple that is no tumour."""
    rng = canvas.rng
    lobules = where & (canvas.clouds(150) > rng.uniform(0.9, 1.8))
    centres = canvas.points(60, lobules)
    lumen = rng.uniform(4, 14, len(centres))
    depth = around(canvas, centres, lumen * 1.3, lumen, margin=15.0)
    add_lined(canvas, temper, np.where(where, depth, 40), 14, secretion=0.05)
    infiltrate = canvas.points(9, where & (canvas.clouds(110) > rng.uniform(1.0, 2.2)))
    canvas.stamp_nuclei(infiltrate, 6.5, 1.0, 1.05 * temper.ink)


def _add_tumour(canvas: Canvas, temper: Temper, tumour: np.ndarray) -> None:
    """Irregular nests and cords, more or less of them by case, with scar between them."""
    rng = canvas.rng
    nests = canvas.clouds(rng.uniform(45, 110)) + 0.4 * clouds(rng, canvas.height, canvas.width, 5)
    add_epithelium(canvas, temper, tumour & (nests > rng.normal(0.1, 0.35)), temper.size * 1.2)
