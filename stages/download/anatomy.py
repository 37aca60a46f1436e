"""What tissue is built of: stroma, glands, solid nests, fat. Each adds to a canvas; lengths are micrometres."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from stages.download.tissue import Canvas, Stain, fibres


@dataclass(frozen=True)
class Temper:
    """What stays the same over the images of one case.

    stain: its colours. size: diameter of its epithelial nuclei. spread: their relative standard deviation.
    ragged: how far their outline is from an ellipse. crowding: nuclei per area against the usual. ink: their darkness.
    collagen: density of its stroma. reaction: how far the stroma answers a tumour, bluish and rich in cells, 0-1.
    """

    stain: Stain
    size: float
    spread: float
    ragged: float
    crowding: float
    ink: float
    collagen: float
    reaction: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, malignant: bool) -> Self:
        """The two classes overlap: a low-grade tumour's nuclei differ little from those of a lively adenosis."""
        grade = 0.15 + 0.85 * rng.beta(2.2, 1.6) if malignant else 0.3 * rng.beta(1.3, 2.5)
        return cls(
            stain=Stain.drawn(rng),
            size=6.2 + 5.0 * grade + rng.normal(0, 0.3),
            spread=0.08 + 0.22 * grade,
            ragged=0.03 + 0.11 * grade,
            crowding=0.85 + 0.45 * grade + rng.normal(0, 0.06),
            ink=rng.uniform(0.72, 0.88) * (1 + 0.45 * grade),
            collagen=rng.uniform(0.6, 1.0) * (1 - 0.15 * grade),
            reaction=grade,
        )


def add_stroma(canvas: Canvas, temper: Temper, cells: float, looseness: float) -> None:
    """Cover the canvas with pink fibres and spindle nuclei.

    cells: distance between spindle nuclei. looseness: 0 = dense collagen, 1 = pale and torn by clefts.
    """
    zoom = max(canvas.scale * 1.1, 0.5)
    strands = canvas.texture(fibres(), zoom)
    patches = canvas.clouds(90)
    density = temper.collagen * (0.35 + 0.55 * strands) * (1 + 0.12 * patches) * (1 - 0.4 * looseness)
    torn = strands + 0.28 * patches < 0.4 * looseness - 0.2
    canvas.eosin = np.where(torn, 0.1 * density, density)
    haze = 0.05 + 0.05 * looseness + 0.09 * temper.reaction + 0.02 * patches
    canvas.hematoxylin = haze.clip(0.01) * ~torn
    places = canvas.points(cells / (1 + 0.5 * temper.reaction))
    places = places[canvas.rng.random(len(places)) < 0.7]
    canvas.stamp_nuclei(places, canvas.rng.normal(9.5, 1.5, len(places)), 3.2, 0.8 * temper.ink)


def add_epithelium(canvas: Canvas, temper: Temper, where: np.ndarray, spacing: float, tint: float = 1.0) -> None:
    """Fill the mask `where` with cells: purplish cytoplasm, and nuclei `spacing` apart."""
    canvas.eosin = np.where(where, 0.42 * tint, canvas.eosin)
    canvas.hematoxylin = np.where(where, 0.26 * tint, canvas.hematoxylin)
    canvas.nuclei[where] = 0
    places = canvas.points(spacing / np.sqrt(temper.crowding), where)
    size = temper.size * np.exp(canvas.rng.normal(0, temper.spread, len(places)).clip(-0.6, 0.6))
    ink = temper.ink * np.exp(canvas.rng.normal(0, 0.5 * temper.spread + 0.05, len(places)))
    canvas.stamp_nuclei(places, size, 1.25, ink, temper.ragged)


def add_lined(canvas: Canvas, temper: Temper, depth: np.ndarray, wall: float, secretion: float) -> None:
    """Cut cavities where `depth` < 0 and line them with epithelium `wall` thick.

    depth: distance into the tissue from the wall of the nearest cavity, negative inside it. secretion: pink in the
    cavity, units of stain.
    """
    add_epithelium(canvas, temper, (depth > 0) & (depth < wall), temper.size * 1.12)
    hollow = depth <= 0
    canvas.eosin = np.where(hollow, secretion * (1 + 0.3 * canvas.clouds(12)), canvas.eosin)
    canvas.hematoxylin = np.where(hollow, 0.01, canvas.hematoxylin)
    # A nucleus that leans over the edge keeps its part inside the cavity; what lies deeper there is wiped off.
    canvas.nuclei[depth < -2] = 0


def around(
    canvas: Canvas, centres: np.ndarray, long: np.ndarray, short: np.ndarray, *, margin: float, aligned: float = 3.0
) -> np.ndarray:
    """Distance from the nearest of many wobbly ellipses, float32 (height, width), negative inside, at most `margin`.

    centres: (n, 2) px. long, short: (n,) half axes. aligned: how far, radians, they stray from the fibres' direction.
    """
    depth = np.full(canvas.height * canvas.width, margin, np.float32)
    turn = canvas.rng.normal(canvas.angle, aligned, len(centres))
    wobble = 1 + 0.1 * canvas.clouds(22).reshape(-1)
    shape = [value.astype(np.float32) for value in (long, short, np.cos(turn), np.sin(turn))]
    for stamp in canvas.stamps(centres, (long * 1.1 + margin) * canvas.scale):
        a, b, c, s = (value[stamp.which, None, None] for value in shape)
        dx, dy = stamp.dx / np.float32(canvas.scale), stamp.dy / np.float32(canvas.scale)
        along, across = (dx * c + dy * s) / a, (dy * c - dx * s) / b
        radius = np.sqrt(along**2 + across**2) + np.float32(1e-6)
        # radius - 1 over its slope is the distance to first order, which is all that a wall of even width needs.
        slope = np.sqrt((along / a) ** 2 + (across / b) ** 2) / radius + np.float32(1e-6)
        distance = (radius * wobble[stamp.pixel] - 1) / slope
        close = (distance < margin) & stamp.seen
        np.minimum.at(depth, stamp.pixel[close], distance[close])
    return depth.reshape(canvas.height, canvas.width)


def add_fat(canvas: Canvas, where: np.ndarray) -> None:
    """Replace the tissue in the mask `where` by fat: empty cells of 60 to 90 micrometres with thin pink walls."""
    centres = canvas.points(70)
    half = canvas.rng.normal(36, 3, len(centres)).clip(24)
    depth = around(canvas, centres, half, half * 0.9, margin=1.0)
    hollow = where & (depth < 0)
    canvas.eosin = np.where(hollow, 0.015, np.where(where, np.maximum(canvas.eosin * 0.7, 0.2), canvas.eosin))
    canvas.hematoxylin = np.where(hollow, 0.01, canvas.hematoxylin)
    canvas.nuclei[hollow] = 0
