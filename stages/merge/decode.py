"""One chunk of members -> their pixels at store size, hashes and measures. Runs in the decoding processes."""

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import imagecodecs
import numpy as np
from isal import isal_zlib
from PIL import Image, PngImagePlugin

from stages.merge.archives import read_stored
from stages.merge.measures import measure
from stages.merge.member import DamagedError, Stored

MAX_SIDE = 4096
"""Longest side that is decoded, pixels: the longest published is 700. Keeps a decoded image under 64 MiB."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_HEADER = struct.Struct(">8sI4sII")
_CHUNK = struct.Struct(">I4s")
_CHECK = struct.Struct(">I")
_BLOCK = struct.Struct("<4s2sBHH")
_BLOCK_MAX = 0xFFFF
_END = b"\0\0\0\0IEND\xaeB`\x82"
_RGB8 = b"\x08\x02\0\0\0"  # bit depth 8, truecolour, deflate, adaptive filters, not interlaced

# What Pillow raises on broken input, from its own checks down to zlib's.
_BROKEN = (ArithmeticError, AttributeError, EOFError, LookupError, MemoryError, OSError, SyntaxError, TypeError)
_BROKEN += (ValueError, struct.error, zlib.error)
_BROKEN_PLAIN = (imagecodecs.SpngError, isal_zlib.error, struct.error)


class Frame(NamedTuple):
    """The size of a store's images, and whether larger ones are reduced to it or are an error."""

    height: int
    width: int
    reduces: bool


class Job(NamedTuple):
    """One member to hash and, unless its name already rules it out, to decode.

    content: its place in the archive, its bytes, or the part of the shared memory (start, stop) that holds them.
    """

    content: Stored | bytes | tuple[int, int]
    decode: bool


class Outcome(NamedTuple):
    """What became of one job. error: why there are no pixels; None where there are, or where none were asked for."""

    sha256: str | None = None
    pixel_sha256: str | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    padded: bool | None = None
    error: str | None = None


class Decoded(NamedTuple):
    """What became of a chunk.

    outcomes: the columns of Outcome, in the order of the jobs. measures: float32 (k, 8) of the `k` that were decoded.
    """

    outcomes: list[tuple[Any, ...]]
    measures: np.ndarray


class UnreadableError(Exception):
    """An image that cannot or must not be decoded."""


def decode_chunk(archive: Path, jobs: Sequence[Job], frame: Frame, images: memoryview, pixels: np.ndarray) -> Decoded:
    """Read, hash, decode, fit and measure each job. A bad member is an outcome, never an exception.

    images: the bytes of jobs that are parts of it. pixels: uint8 (n, height, width, 3) for n jobs; those that were
    decoded are put there one after the other.
    """
    outcomes: list[Outcome] = []
    kept = 0
    descriptor = os.open(archive, os.O_RDONLY)
    try:
        for job in jobs:
            outcome = _attempt(descriptor, job, frame, images, pixels[kept])
            kept += outcome.pixel_sha256 is not None
            outcomes.append(outcome)
    finally:
        os.close(descriptor)
    return Decoded(list(zip(*outcomes, strict=True)), measure(pixels[:kept]))


def _attempt(descriptor: int, job: Job, frame: Frame, images: memoryview, into: np.ndarray) -> Outcome:
    sha256 = None
    try:
        data = _bytes(descriptor, job.content, images)
        sha256 = hashlib.sha256(data).hexdigest()
        if not job.decode:
            return Outcome(sha256)
        rgb, mode = decode_png(data)
        height, width = rgb.shape[:2]
        padded = fit(rgb, frame, into)
    except (DamagedError, UnreadableError) as error:
        return Outcome(sha256, error=str(error))
    pixel_hash = hashlib.sha256(struct.pack(">II", width, height))
    pixel_hash.update(rgb)
    return Outcome(sha256, pixel_hash.hexdigest(), width, height, mode, padded)


def _bytes(descriptor: int, content: Stored | bytes | tuple[int, int], images: memoryview) -> bytes | memoryview:
    if isinstance(content, Stored):
        return read_stored(descriptor, content)
    return content if isinstance(content, bytes) else images[content[0] : content[1]]


def decode_png(data: bytes | memoryview) -> tuple[np.ndarray, str]:
    """Decode a PNG to RGB, uint8 (height, width, 3); also the mode that its file has, in Pillow's words.

    The size is read from the header first, so that a small file that declares a huge image is refused before any
    memory is taken for it. No other format's decoder is reachable. Raises UnreadableError.
    """
    if len(data) < _HEADER.size:
        raise UnreadableError("unreadable: not a PNG")
    signature, _, chunk, width, height = _HEADER.unpack_from(data)
    if signature != _SIGNATURE or chunk != b"IHDR":
        raise UnreadableError("unreadable: not a PNG")
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise UnreadableError(f"refused: declares {width:,}x{height:,} pixels, at most {MAX_SIDE:,} a side are decoded")
    rgb = _plain(data, width, height)
    if rgb is not None:
        return rgb, "RGB"
    try:
        image = PngImagePlugin.PngImageFile(io.BytesIO(data))
        image.load()
        return np.asarray(_rgb(image)), image.mode
    except _BROKEN as error:
        raise UnreadableError(f"unreadable: {' '.join(str(error).split()) or type(error).__name__}") from None


def _plain(data: bytes | memoryview, width: int, height: int) -> np.ndarray | None:
    """The pixels of a whole 8-bit RGB file without interlacing, as every published one is; else None.

    libspng gives the same pixels as Pillow in two thirds of the time. Whatever is unusual or broken is left to Pillow,
    which says what is wrong.
    """
    if bytes(data[24:29]) != _RGB8 or bytes(data[-len(_END) :]) != _END:
        return None
    size = height * (3 * width + 1)
    try:
        rgb = imagecodecs.spng_decode(_inflated(data, size) if size <= _BLOCK_MAX else data)
    except _BROKEN_PLAIN:
        return None
    return rgb if rgb.shape == (height, width, 3) else None


def _inflated(data: bytes | memoryview, size: int) -> bytes | memoryview:
    """The same small PNG with its `size` bytes of rows in one stored block (RFC 1951, 3.2.4), as ISA-L inflates them.

    A patch takes a third less time this way; zlib, which libspng calls, spends most of it setting up. Anything but
    one plain stream of the right size is returned as it is.
    """
    at, parts = _HEADER.size + 9, []
    while True:
        length, kind = _CHUNK.unpack_from(data, at)
        if kind == b"IDAT":
            parts.append(data[at + 8 : at + 8 + length])
        elif kind == b"IEND":
            break
        elif kind[:1].isupper():
            return data
        at += 12 + length
    packed, expand = b"".join(parts), isal_zlib.decompressobj()
    rows = expand.decompress(packed, size + 1)
    if len(rows) != size or not expand.eof:
        return data
    body = b"".join((_BLOCK.pack(b"IDAT", b"\x78\x01", 1, size, size ^ _BLOCK_MAX), rows, packed[-4:]))
    ends = _CHECK.pack(len(body) - 4), _CHECK.pack(zlib.crc32(body))
    return b"".join((data[: _HEADER.size + 9], ends[0], body, ends[1], _END))


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow's own conversion would clip at 255
        grey = (np.asarray(image).astype(np.uint32) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey).convert("RGB")
    return image.convert("RGB")


def fit(rgb: np.ndarray, frame: Frame, into: np.ndarray) -> bool:
    """Put an image, uint8 (h, w, 3), into `into`, uint8 (height, width, 3), of the store.

    A larger image is reduced once, its aspect kept, where the frame allows it. What falls short is padded on the right
    and below by reflection, where the publishers' edge images end; nothing is ever enlarged or stretched. Returns
    whether it was padded. Raises UnreadableError for a larger image where the frame forbids it.
    """
    height, width = rgb.shape[:2]
    if height > frame.height or width > frame.width:
        if not frame.reduces:
            raise UnreadableError(f"{width}x{height} pixels, at most {frame.width}x{frame.height} are published")
        rgb = np.asarray(reduced(Image.fromarray(rgb), frame.height, frame.width))
        height, width = rgb.shape[:2]
    if (height, width) == (frame.height, frame.width):
        into[:] = rgb
        return False
    into[:] = reflect(rgb, frame.height, frame.width)
    return True


def reduced(image: Image.Image, height: int, width: int) -> Image.Image:
    """`image` made to fit into width x height with its aspect kept; a whole factor takes exact block means."""
    factor = max(image.width / width, image.height / height)
    if factor.is_integer():
        return image.reduce(int(factor))
    size = max(1, min(width, round(image.width / factor))), max(1, min(height, round(image.height / factor)))
    return image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)


def reflect(rgb: np.ndarray, height: int, width: int) -> np.ndarray:
    """Pad uint8 (h, w, 3) to (height, width, 3) by mirroring at the right and lower edge, edge pixel included.

    Mirrors again and again where the image is narrow, so that any width and height from 1 works.
    """
    return np.pad(rgb, ((0, height - rgb.shape[0]), (0, width - rgb.shape[1]), (0, 0)), mode="symmetric")
