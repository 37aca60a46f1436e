"""Draws one picture sheet: rows of images, a column for each draw, with words that say what is what."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL = 96
"""Least side of an image on the sheet, pixels: smaller ones are shown larger by a whole factor, pixel by pixel."""
GAP, MARGIN, LABEL, LINE = 6, 18, 132, 18
INK, PALE, PAPER = (34, 34, 34), (110, 110, 110), (255, 255, 255)


@dataclass(frozen=True)
class Sheet:
    """What a sheet shows."""

    title: str
    notes: Sequence[str]
    """Lines under the title."""
    columns: Sequence[str]
    """The first stands apart: the images as they are."""
    rows: Sequence[str]
    groups: Sequence[int]
    """Of each row, from 0 on; rows of one group stand together."""
    images: np.ndarray
    """uint8 (columns, rows, S, S, 3)."""
    captions: Sequence[Sequence[str]] | None = None
    """[column][row], under each image."""


def drawn_sheet(sheet: Sheet) -> Image.Image:
    """The sheet as an RGB picture, the same for the same contents."""
    large, small = ImageFont.load_default(20), ImageFont.load_default(13)
    factor = max(1, -(-CELL // sheet.images.shape[2]))
    cell = factor * sheet.images.shape[2]
    across = [MARGIN + LABEL + at * (cell + GAP) + (3 * GAP if at else 0) for at in range(len(sheet.columns))]
    below = LINE if sheet.captions else 0
    top = MARGIN + 30 + LINE * len(sheet.notes) + GAP
    down = [top + LINE + at * (cell + below + GAP) + 3 * GAP * group for at, group in enumerate(sheet.groups)]
    words = max(ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(line, small) for line in ["", *sheet.notes])
    width = max(across[-1] + cell, MARGIN + int(words)) + MARGIN
    picture = Image.new("RGB", (width, down[-1] + cell + below + MARGIN), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, MARGIN - 4), sheet.title, INK, large)
    for number, line in enumerate(sheet.notes):
        draw.text((MARGIN, MARGIN + 28 + LINE * number), line, PALE, small)
    for x, column in zip(across, sheet.columns, strict=True):
        draw.text((x + cell / 2, top), column, PALE, small, anchor="ma")
    for y, row in zip(down, sheet.rows, strict=True):
        draw.multiline_text((MARGIN, y + cell / 2), row, INK, small, anchor="lm", spacing=3)
    for number, x in enumerate(across):
        for place, y in enumerate(down):
            shown = sheet.images[number, place].repeat(factor, axis=0).repeat(factor, axis=1)
            picture.paste(Image.fromarray(shown), (x, y))
            if sheet.captions:
                draw.text((x + cell / 2, y + cell + 2), sheet.captions[number][place], PALE, small, anchor="ma")
    return picture
