"""The brush of the demo: stains, textures, cell nuclei and cavities, as layers of optical density.

What it draws looks like tissue stained with hematoxylin and eosin, but is a drawing: it holds no medical data, and no
conclusion about patients can be drawn from a model trained on it.
"""

from collections.abc import Iterator
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
        hue = rng.normal(1.0, 0.1, (2, 3))
        strength = np.exp(rng.normal(0.0, 0.17, (2, 1)))
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


@dataclass(frozen=True)
class Stamps:
    """Windows of equal shape, h x w, around some places of a canvas.

    which: (m,) which places. dx (m, 1, w), dy (m, h, 1): px from the place. pixel (m, h, w): flat index on the canvas,
    of the nearest pixel where the window hangs over its edge. seen (m, h, w): whether the canvas has that pixel.
    """

    which: np.ndarray
    dx: np.ndarray
    dy: np.ndarray
    pixel: np.ndarray
    seen: np.ndarray


class Canvas:
    """Layers of stain on a field of view; lengths are micrometres unless they say px.

    hematoxylin, eosin: float32 (height, width) units of stain. scale: pixels per micrometre. angle: the direction in
    which the fibres of this field run, radians.
    """

    def __init__(self, rng: np.random.Generator, height: int, width: int, scale: float) -> None:
        self.rng, self.height, self.width, self.scale = rng, height, width, scale
        self.angle = rng.uniform(0, np.pi)
        self.hematoxylin = np.zeros((height, width), np.float32)
        self.eosin = np.zeros((height, width), np.float32)
        self.nuclei = np.zeros((height, width), np.float32)
        self.speck = self.texture(grain(), max(scale, 0.55))

    def clouds(self, cell: float) -> np.ndarray:
        """Smooth noise with features of about `cell` micrometres, float32 (height, width), about standard normal."""
        return clouds(self.rng, self.height, self.width, max(cell * self.scale, 2.0))

    def texture(self, bank: np.ndarray, zoom: float) -> np.ndarray:
        """A random window of a texture, enlarged `zoom` times, turned so that fibres run along `angle`."""
        cosine, sine = np.cos(self.angle) / zoom, np.sin(self.angle) / zoom
        reach = min(np.hypot(self.height, self.width) / 2 / zoom, TEXTURE_SIDE / 2)
        x, y = self.rng.uniform(reach, TEXTURE_SIDE - reach, 2)
        columns, rows = self.width / 2, self.height / 2
        turn = (cosine, sine, x - cosine * columns - sine * rows, -sine, cosine, y + sine * columns - cosine * rows)
        return np.asarray(
            Image.fromarray(bank).transform(
                (self.width, self.height), Image.Transform.AFFINE, turn, Image.Resampling.BILINEAR, fillcolor=0.5
            )
        )

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

    def stamps(self, places: np.ndarray, reach: np.ndarray) -> Iterator[Stamps]:
        """The pixels around many places, in batches of about equal `reach`, (n,) px, so that few are looked at in vain.

        places: (n, 2) px, on the canvas or off it.
        """
        steps = np.ceil(2 * np.log2(reach.clip(1.0)))
        near = (places + reach[:, None] >= 0).all(1) & (places - reach[:, None] < (self.width, self.height)).all(1)
        for step in np.unique(steps[near]):
            which = np.flatnonzero(near & (steps == step))
            offsets = np.arange(-int(2 ** (step / 2)), int(2 ** (step / 2)) + 2, dtype=np.int32)
            corner = np.floor(places[which]).astype(np.int32)
            columns, rows = (
                # A window wider than the canvas is the canvas.
                corner[:, axis, None] + offsets if len(offsets) < side else np.tile(np.arange(side), (len(which), 1))
                for axis, side in enumerate((self.width, self.height))
            )
            pixel = (rows.clip(0, self.height - 1) * self.width)[:, :, None] + columns.clip(0, self.width - 1)[:, None]
            seen = ((rows >= 0) & (rows < self.height))[:, :, None] & ((columns >= 0) & (columns < self.width))[:, None]
            dx = (columns - places[which, 0, None])[:, None, :].astype(np.float32)
            dy = (rows - places[which, 1, None])[:, :, None].astype(np.float32)
            yield Stamps(which, dx, dy, pixel, seen)

    def stamp_nuclei(
        self, places: np.ndarray, size: np.ndarray | float, aspect: float, ink: np.ndarray | float, ragged: float = 0.0
    ) -> None:
        """Put nuclei at `places`, (n, 2) px: ellipses `size` long and `size / aspect` wide, with a darker rim.

        ink: units of hematoxylin. ragged: how far the outline strays from an ellipse. Long nuclei follow the fibres.
        """
        count = len(places)
        if count == 0:
            return
        ink = np.broadcast_to(np.float32(ink), (count,))[:, None, None]
        long = (np.broadcast_to(np.float32(size), (count,)) * self.scale / 2).clip(0.9)
        short = (long / aspect).clip(0.6)
        turn = self.rng.normal(self.angle, 0.35 if aspect > 1.8 else 3.0, count)
        cosine, sine = np.cos(turn).astype(np.float32), np.sin(turn).astype(np.float32)
        outline = 1 + ragged * self.speck.reshape(-1)
        for stamp in self.stamps(places, long * (1 + 0.55 / short) * (1 + ragged / 2)):
            a, b, c, s = (value[stamp.which, None, None] for value in (long, short, cosine, sine))
            square = ((stamp.dx * c + stamp.dy * s) / a) ** 2 + ((stamp.dy * c - stamp.dx * s) / b) ** 2
            cover = (1 - np.sqrt(square) * outline[stamp.pixel]) * (0.9 * b) + 0.5
            inside = (cover > 0) & stamp.seen
            value = cover.clip(None, 1) * (0.72 + 0.28 * square.clip(None, 1)) * ink[stamp.which]
            np.maximum.at(self.nuclei.reshape(-1), stamp.pixel[inside], value[inside])

    def render(self, stain: Stain) -> np.ndarray:
        """The image, uint8 (height, width, 3), by Beer and Lambert."""
        cover = self.nuclei.clip(0, 1)
        blue = np.maximum(self.hematoxylin * (1 + 0.15 * self.speck), self.nuclei * (1 + 0.2 * self.speck))
        pink = self.eosin * (1 - 0.55 * cover) * (1 + 0.06 * self.speck)
        image = np.empty((self.height, self.width, 3), np.uint8)
        for channel in range(3):
            density = blue * stain.hematoxylin[channel] + pink * stain.eosin[channel]
            image[..., channel] = stain.glass[channel] * np.exp(-density.clip(0))
        return image


def coarse(image: np.ndarray) -> np.ndarray:
    """The image, uint8, in steps of 4 grey levels: no eye sees it, and its file is half as large."""
    return image & 0xFC | 2
