"""The brush of the demo: stains, textures, cell nuclei and cavities, as layers of optical density.

What it draws looks like tissue stained with hematoxylin and eosin, but is a drawing: it holds no medical data, and no
conclusion about patients can be drawn from a model trained on it.
"""

from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
from PIL import Image

HEMATOXYLIN = np.array([0.75, 0.82, 0.36], np.float32)
EOSIN = np.array([0.12, 0.80, 0.42], np.float32)
"""Optical density of red, green and blue at one unit of stain; after Ruifrok and Johnston (2001)."""


@dataclass(frozen=True)
class Stain:
    """How one case took the stains: densities (3,) per unit of each stain, and the colour of empty glass, 0-255."""

    hematoxylin: np.ndarray
    eosin: np.ndarray
    glass: np.ndarray

    @classmethod
    def drawn(cls, rng: np.random.Generator) -> Self:
        """A stain as one laboratory might give it: hue and strength vary enough to tell cases apart by colour alone."""
        hue = rng.normal(1.0, 0.11, (2, 3))
        strength = np.exp(rng.normal(0.0, 0.24, (2, 1)))
        vectors = (np.stack([HEMATOXYLIN, EOSIN]) * hue * strength).astype(np.float32)
        glass = (rng.uniform(228, 250) + rng.normal(0, 3.0, 3)).clip(215, 253).astype(np.float32)
        return cls(vectors[0], vectors[1], glass)


def clouds(rng: np.random.Generator, height: int, width: int, cell: float) -> np.ndarray:
    """Smooth noise, float32 (height, width), about standard normal, with features of about `cell` pixels."""
    rows, columns = (max(int(np.ceil(side / cell)), 1) + 3 for side in (height, width))
    coarse = Image.fromarray(rng.standard_normal((rows, columns), np.float32))
    box = (1.0, 1.0, 1.0 + width / cell, 1.0 + height / cell)
    return 1.4 * np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC, box=box))


TEXTURE_SIDE = 1024


@cache
def fibres() -> np.ndarray:
    """Wavy bundles of collagen, float32 (1024, 1024), 0-1, drawn once a process from a seed of its own."""
    rng = np.random.default_rng(1)
    side = TEXTURE_SIDE
    rows = np.arange(side)[:, None] + 14 * clouds(rng, side, side, 110) + 3.5 * clouds(rng, side, side, 34)
    columns = np.broadcast_to(np.arange(side)[None, :], (side, side))
    streaks = np.zeros((side, side), np.float32)
    for thickness, length, weight in ((5, 90, 0.6), (2.5, 40, 0.4)):
        image = Image.fromarray(
            rng.standard_normal((int(1.2 * side / thickness), int(side / length) + 2), np.float32)
        ).resize((side, int(1.2 * side)), Image.Resampling.BICUBIC)
        bundle = np.asarray(image)
        streaks += weight * bundle[(rows + 0.1 * side).astype(int).clip(0, len(bundle) - 1), columns]
    return (0.5 + 0.55 * streaks).clip(0, 1).astype(np.float32)


@cache
def grain() -> np.ndarray:
    """Fine mottling as of chromatin and cytoplasm, float32 (1024, 1024), about standard normal."""
    rng = np.random.default_rng(2)
    return 0.8 * clouds(rng, TEXTURE_SIDE, TEXTURE_SIDE, 3.2) + 0.5 * clouds(rng, TEXTURE_SIDE, TEXTURE_SIDE, 7)


class Canvas:
    """Layers of stain on a field of view; lengths are micrometres unless they say px.

    hematoxylin, eosin: float32 (height, width) units of stain. scale: pixels per micrometre. angle: the direction in
    which the fibres of this field run, radians.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int, scale: float) -> None:
        self.rng, self.height, self.width, self.scale = rng, height, width, scale
        self.angle = rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.1)
        self.hematoxylin = np.zeros((height, width), np.float32)
        self.eosin = np.zeros((height, width), np.float32)
        self.nuclei = np.zeros((height, width), np.float32)

    def clouds(self, cell: float) -> np.ndarray:
        """Smooth noise with features of about `cell` micrometres, float32 (height, width), about standard normal."""
        return clouds(self.rng, self.height, self.width, max(cell * self.scale, 2.0))

    def texture(self, bank: np.ndarray, zoom: float) -> np.ndarray:
        """A random window of a texture, enlarged `zoom` times, turned so that fibres run along `angle`."""
        upright = abs(np.sin(self.angle)) > 0.5
        height, width = (self.width, self.height) if upright else (self.height, self.width)
        rows, columns = (min(side / zoom, TEXTURE_SIDE) for side in (height, width))
        top, left = self.rng.uniform(0, TEXTURE_SIDE - rows), self.rng.uniform(0, TEXTURE_SIDE - columns)
        window = Image.fromarray(bank).resize(
            (width, height), Image.Resampling.BILINEAR, box=(left, top, left + columns, top + rows)
        )
        return np.asarray(window).T if upright else np.asarray(window)

    def points(self, spacing: float, where: np.ndarray | None = None) -> np.ndarray:
        """Places on a jittered hexagonal grid, float32 (n, 2) x and y in px; only those inside the mask `where`."""
        step = spacing * self.scale
        ys, xs = np.mgrid[-1 : self.height / (0.866 * step) + 1, -1 : self.width / step + 1].astype(np.float32)
        places = np.stack([(xs + 0.5 * (ys % 2)) * step, ys * 0.866 * step], -1).reshape(-1, 2)
        places += self.rng.normal(0, 0.2 * step, places.shape).astype(np.float32)
        if where is None:
            return places
        inside = (places >= 0).all(1) & (places[:, 0] < self.width) & (places[:, 1] < self.height)
        places = places[inside]
        columns, rows = places.astype(np.intp).T
        return places[where[rows, columns]]

    def stamp_nuclei(
        self, places: np.ndarray, size: np.ndarray | float, aspect: float, ink: np.ndarray | float, ragged: float = 0.0
    ) -> None:
        """Put nuclei at `places`, (n, 2) px: ellipses `size` long and `size / aspect` wide, with a darker rim.

        ink: units of hematoxylin. ragged: 0 = smooth outline; 0.3 = three-lobed. Long nuclei follow the fibres.
        """
        count = len(places)
        if count == 0:
            return
        long = np.broadcast_to(np.asarray(size, np.float32) * self.scale / 2, (count,)).clip(0.9)[:, None, None]
        short = (long / aspect).clip(0.6)
        turn = self.rng.normal(self.angle, 0.35 if aspect > 1.8 else 3.0, (count, 1, 1)).astype(np.float32)
        reach = int(np.ceil(float(long.max()) * (1 + ragged))) + 1
        offsets = np.arange(-reach, reach + 1)
        corner = np.floor(places).astype(np.intp)
        dx = offsets[None, None, :] - (places[:, 0] - corner[:, 0])[:, None, None]
        dy = offsets[None, :, None] - (places[:, 1] - corner[:, 1])[:, None, None]
        along = (dx * np.cos(turn) + dy * np.sin(turn)) / long
        across = (dy * np.cos(turn) - dx * np.sin(turn)) / short
        square = along**2 + across**2 + 1e-6
        distance = np.sqrt(square)
        if ragged:
            distance = distance * (1 + ragged * (along**3 - 3 * along * across**2) / (square * distance + 0.2))
        cover = ((1 - distance) * short * 0.9 + 0.5).clip(0, 1)
        value = cover * (0.72 + 0.28 * square.clip(0, 1)) * np.broadcast_to(ink, (count,))[:, None, None]
        columns = corner[:, 0, None, None] + offsets[None, None, :] + 0 * offsets[None, :, None]
        rows = corner[:, 1, None, None] + offsets[None, :, None] + 0 * offsets[None, None, :]
        seen = (cover > 0) & (columns >= 0) & (columns < self.width) & (rows >= 0) & (rows < self.height)
        np.maximum.at(self.nuclei.reshape(-1), (rows * self.width + columns)[seen], value[seen].astype(np.float32))

    def render(self, stain: Stain, mottle: float) -> np.ndarray:
        """The image, uint8 (height, width, 3), by Beer and Lambert. mottle: size of the chromatin's grain, px."""
        speck = self.texture(grain(), mottle)
        cover = self.nuclei.clip(0, 1)
        blue = np.maximum(self.hematoxylin, self.nuclei * (1 + 0.16 * speck)) * (1 + 0.05 * speck)
        pink = self.eosin * (1 - 0.55 * cover) * (1 + 0.06 * speck)
        density = blue[..., None] * stain.hematoxylin + pink[..., None] * stain.eosin
        return (stain.glass * np.exp(-density.clip(0))).astype(np.uint8)
