"""Makes archives of the published size, in their layouts: `python -m benchmarks.fullscale FOLDER [--scale 1.0]`.

277,524 IDC patches in a zip that holds its tree twice (as Kaggle's does) and 7,909 BreakHis images in one tar.gz, with
distinct pixels and distinct bytes each: flips and shifts of the real images in ../shared/data, encoded again. The names
are the published BreakHis names, and IDC names of 279 cases with the published class counts. Needs no more memory than
the decoded sample; about 6 minutes on two cores.
"""

import argparse
import functools
import io
import json
import os
import struct
import tarfile
import time
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from stages.merge.breakhis import SUBTYPE_FOLDERS

DATA = Path(__file__).resolve().parents[2] / "shared/data"
IDC, BREAKHIS = "IDC_regular_ps50_idx5.zip", "BreaKHis_v1.tar.gz"
CASES, CLASS_COUNTS = 279, (198_738, 78_786)
GRID = (80, 60)  # patches of a case lie on a grid of 50 px; x stays below 4,000 and y below 3,000 in the release
CHUNK = 64  # images that one task makes


def make(folder: Path, scale: float) -> tuple[Path, Path]:
    """The two archives in `folder`, made if they are not there for this scale yet."""
    folder.mkdir(parents=True, exist_ok=True)
    stamp = folder / "fullscale.json"
    wanted = {"scale": scale, "version": 2}
    paths = folder / IDC, folder / BREAKHIS
    if stamp.exists() and json.loads(stamp.read_text()) == wanted:
        return paths
    stamp.unlink(missing_ok=True)
    for path, write in zip(paths, (_write_idc, _write_breakhis), strict=True):
        clock = time.monotonic()
        part = path.with_suffix(".part")
        count = write(part, scale)
        part.replace(path)
        size, seconds = path.stat().st_size, time.monotonic() - clock
        print(f"{path}: {count:,} images, {size:,} bytes, {seconds:.0f} s", flush=True)
    stamp.write_text(json.dumps(wanted))
    return paths


def idc_names(scale: float) -> list[str]:
    """`<case>/<class>/<name>` of every patch, sorted; the published class counts times `scale`, over 279 cases."""
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], [round(count * scale) for count in CLASS_COUNTS])
    rng.shuffle(labels)
    case = np.sort(rng.integers(0, CASES, len(labels)))
    names: list[str] = []
    for number in range(CASES):
        mine = labels[case == number]
        places = rng.permutation(GRID[0] * GRID[1])[: len(mine)]
        for label, place in zip(mine, places, strict=True):
            x, y = 1 + 50 * (place % GRID[0]), 1 + 50 * (place // GRID[0])
            names.append(f"{8863 + number}/{label}/{8863 + number}_idx5_x{x}_y{y}_class{label}.png")
    return sorted(names)


def breakhis_names(scale: float) -> list[str]:
    """The path in BreaKHis_v1.tar.gz of every published image (or the first share of each slide), sorted."""
    files = [line.split("|")[0] for line in (DATA / "names/dsfold1.txt").read_text().split()]
    kept = [name for index, name in enumerate(sorted(files)) if int(index * scale) != int((index - 1) * scale)]
    paths = []
    for name in kept:
        _, tumour, rest = name.split("_")
        subtype, year, number, magnification, _ = rest.split("-")
        side = {"B": "benign", "M": "malignant"}[tumour]
        slide = f"SOB_{tumour}_{subtype}_{year}-{number}"
        paths.append(
            f"BreaKHis_v1/histology_slides/breast/{side}/SOB/{SUBTYPE_FOLDERS[subtype]}/{slide}/{magnification}X/{name}"
        )
    return sorted(paths)


def _write_idc(path: Path, scale: float) -> int:
    names = idc_names(scale)
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in zip(names, _made(names, _encode_idc), strict=True):
            archive.writestr(zipfile.ZipInfo(name), data)
        once = archive.infolist()[:]
        with path.open("rb") as back:
            for info in once:  # the nested copy of the whole tree
                archive.fp.flush()
                data = os.pread(back.fileno(), info.file_size, info.header_offset + 30 + len(info.filename))
                archive.writestr(zipfile.ZipInfo(f"IDC_regular_ps50_idx5/{info.filename}"), data)
    return len(names)


def _write_breakhis(path: Path, scale: float) -> int:
    """One gzip stream, deflated by all cores: each task ends its part on a byte boundary, as pigz does."""
    names = breakhis_names(scale)
    crc = size = 0
    with path.open("wb", buffering=1 << 20) as file:
        file.write(b"\x1f\x8b\x08\0\0\0\0\0\0\xff")
        for plain_crc, plain_size, deflated in _made(names, _encode_breakhis):
            crc, size = crc32_combine(crc, plain_crc, plain_size), size + plain_size
            file.write(deflated)
        end = bytes(2 * tarfile.BLOCKSIZE)
        last = zlib.compressobj(1, zlib.DEFLATED, -15)
        file.write(last.compress(end) + last.flush())
        file.write(struct.pack("<LL", crc32_combine(crc, zlib.crc32(end), len(end)), (size + len(end)) & 0xFFFFFFFF))
    return len(names)


def crc32_combine(first: int, second: int, length: int) -> int:
    """CRC-32 of two byte strings one after the other, from the CRC of each and the length of the second.

    Advances `first` over `length` zero bytes by squaring the matrix of one zero bit (zlib's crc32_combine).
    """
    matrix = [0xEDB88320, *(1 << bit for bit in range(31))]
    bits = 8 * length
    while bits:
        if bits & 1:
            first = _times(matrix, first)
        matrix = [_times(matrix, column) for column in matrix]
        bits >>= 1
    return first ^ second


def _times(matrix: list[int], vector: int) -> int:
    total = 0
    for column in matrix:
        if vector & 1:
            total ^= column
        vector >>= 1
    return total


def _made(names: list[str], encode: Callable[[list[tuple[int, str]]], list[Any]]) -> Iterator[Any]:
    """What `encode` makes of the numbered names, in order, on all cores, a bounded number of tasks ahead."""
    numbered = list(enumerate(names))
    with ProcessPoolExecutor(mp_context=get_context("fork")) as pool:
        waiting: deque[Future[list[Any]]] = deque()
        for start in range(0, len(numbered), CHUNK):
            waiting.append(pool.submit(encode, numbered[start : start + CHUNK]))
            if len(waiting) > 2 * len(os.sched_getaffinity(0)):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _encode_idc(names: list[tuple[int, str]]) -> list[bytes]:
    pictures = _idc_pictures()
    made = []
    for number, name in names:
        mine = pictures[int(name[-5])]
        made.append(_png(_varied(mine[number % len(mine)], number // len(mine)), 6))
    return made


def _encode_breakhis(names: list[tuple[int, str]]) -> list[tuple[int, int, bytes]]:
    pictures = _breakhis_pictures()
    plain = io.BytesIO()
    for number, name in names:
        # Level 3: decodes as slowly as the publisher's own files and is three times quicker to make than level 6.
        data = _png(_varied(pictures[number % len(pictures)], number // len(pictures)), 3)
        info = tarfile.TarInfo(name)
        info.size = len(data)
        plain.write(info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % tarfile.BLOCKSIZE))
    # Level 6, gzip's own: level 1 leaves more blocks stored, which expand three times faster than real ones.
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    raw = plain.getvalue()
    return [(zlib.crc32(raw), len(raw), packer.compress(raw) + packer.flush(zlib.Z_FULL_FLUSH))]


def _varied(pixels: np.ndarray, turn: int) -> np.ndarray:
    """The `turn`-th variant of a picture: a flip and a cyclic shift, which keep its statistics; 0 is the picture."""
    pixels = pixels[:: -1 if turn & 1 else 1, :: -1 if turn & 2 else 1]
    return np.roll(pixels, (7 * (turn // 4), 11 * (turn // 4)), axis=(0, 1))


def _png(pixels: np.ndarray, level: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG", compress_level=level)
    return out.getvalue()


def _pixels(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


@functools.cache
def _idc_pictures() -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The sample's patches of class 0 and of class 1; drawn ones where there is no sample."""
    if not DATA.is_dir():
        return _drawn(50, 50), _drawn(50, 50)
    with zipfile.ZipFile(DATA / "idc_sample.zip") as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        return tuple([_pixels(archive.read(n)) for n in names if n[-5] == label] for label in "01")


@functools.cache
def _breakhis_pictures() -> list[np.ndarray]:
    if not DATA.is_dir():
        return _drawn(460, 700)
    with tarfile.open(DATA / "breakhis_sample.tar.gz") as archive:
        return [_pixels(archive.extractfile(info).read()) for info in archive if info.isreg()]


def _drawn(height: int, width: int) -> list[np.ndarray]:
    """Noise over a slope, about as hard to compress as tissue."""
    rng = np.random.default_rng(0)
    slope = np.linspace(90, 200, width)[None, :, None] + np.zeros((height, 1, 3))
    return [np.clip(slope + rng.normal(0, 8, slope.shape), 0, 255).astype(np.uint8) for _ in range(50)]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=Path("/tmp/stroma-fullscale"))
    parser.add_argument("--scale", type=float, default=1.0)
    options = parser.parse_args()
    make(options.folder, options.scale)
