"""What becomes of one image: decoding, fitting into the store, measuring."""

import contextlib
import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny_archives import FRAMES, picture, png

from stages.merge.decode import MAX_SIDE, UnreadableError, _plain, decode_png, fit, reduced, reflect
from stages.merge.measures import MEASURES, measure


@given(st.integers(1, 50), st.integers(1, 50))
def test_reflection_pads_any_size_and_keeps_the_image(width: int, height: int) -> None:
    image = picture(width, height)
    padded = reflect(image, 50, 50)
    assert padded.shape == (50, 50, 3)
    assert np.array_equal(padded[:height, :width], image)
    # Row i of the mirror image is row i mod 2h, counted back from the edge in the second half.
    rows, columns = (np.arange(50) % (2 * side) for side in (height, width))
    rows = np.where(rows < height, rows, 2 * height - 1 - rows)
    columns = np.where(columns < width, columns, 2 * width - 1 - columns)
    assert np.array_equal(padded, image[rows][:, columns])


def test_a_whole_reduction_is_the_mean_of_blocks() -> None:
    image = picture(700, 460)
    small = np.asarray(reduced(Image.fromarray(image), 230, 350)).astype(float)
    blocks = image.reshape(230, 2, 350, 2, 3).mean((1, 3))
    assert small.shape == (230, 350, 3)
    assert np.abs(small - blocks).max() <= 0.5


@given(st.integers(1, 900), st.integers(1, 900))
@settings(max_examples=30, deadline=None)
def test_a_reduction_fits_and_keeps_the_aspect(width: int, height: int) -> None:
    if width <= 350 and height <= 230:
        return
    small = reduced(Image.new("RGB", (width, height)), 230, 350)
    assert small.width <= 350
    assert small.height <= 230
    assert abs(small.width / width - small.height / height) <= 1 / min(width, height)


def test_an_image_of_700x456_keeps_its_aspect_and_is_padded_below() -> None:
    image = picture(700, 456)
    into = np.zeros((230, 350, 3), np.uint8)
    assert fit(image, FRAMES["breakhis"], into)
    assert np.array_equal(into[228:], into[226:228][::-1])


def test_a_small_image_is_never_enlarged() -> None:
    image = picture(100, 80)
    into = np.zeros((230, 350, 3), np.uint8)
    assert fit(image, FRAMES["breakhis"], into)
    assert np.array_equal(into[:80, :100], image)


def test_an_idc_patch_larger_than_published_is_refused() -> None:
    image = picture(51, 50)
    with pytest.raises(UnreadableError, match="51x50 pixels, at most 50x50"):
        fit(image, FRAMES["idc"], np.zeros((50, 50, 3), np.uint8))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"])
def test_every_mode_of_png_becomes_rgb_and_is_named(mode: str) -> None:
    image, found = decode_png(png(picture(), mode))
    assert np.asarray(image).shape == (50, 50, 3)
    assert found == mode


def test_sixteen_bit_grey_keeps_its_brightness() -> None:
    grey = Image.fromarray(np.full((8, 8), 128 << 8, np.uint16))
    assert set(np.unique(np.asarray(decode_png(_saved(grey))[0]))) == {128}


def test_a_header_that_declares_a_huge_image_is_refused_before_it_is_decoded() -> None:
    data = bytearray(png(picture()))
    data[16:24] = struct.pack(">II", 1_000_000, 1_000_000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(UnreadableError, match=f"declares 1,000,000x1,000,000 pixels, at most {MAX_SIDE:,}"):
        decode_png(bytes(data))


def test_other_formats_are_not_decoded() -> None:
    with pytest.raises(UnreadableError, match="not a PNG"):
        decode_png(b"\xff\xd8\xff\xe0" + bytes(100))


@given(st.integers(0, 2000), st.binary(min_size=1, max_size=8), st.integers(0, 4000))
@settings(max_examples=300, deadline=None)
def test_broken_bytes_are_unreadable_or_an_image_and_nothing_else(at: int, noise: bytes, end: int) -> None:
    data = png(picture(20, 20))
    broken = (data[:at] + noise + data[at + len(noise) :])[:end]
    with contextlib.suppress(UnreadableError):
        image, _ = decode_png(broken)
        assert image.dtype == np.uint8
        assert image.shape[2] == 3


def test_measures_are_those_of_the_manifest_by_their_plain_definition() -> None:
    pixels = np.stack([picture(20, 16, seed) for seed in range(5)])
    pixels[0, :8] = 240
    found = dict(zip(MEASURES, measure(pixels).T, strict=True))
    for index, channel in enumerate("rgb"):
        assert np.allclose(found[f"mean_{channel}"], pixels[..., index].mean((1, 2)))
        assert np.allclose(found[f"std_{channel}"], pixels[..., index].std((1, 2)))
    assert np.allclose(found["blank"], (pixels > 220).all(-1).mean((1, 2)))
    luma = (pixels @ np.array([77, 150, 29]) + 128) // 256
    laplacian = (
        4 * luma[:, 1:-1, 1:-1] - luma[:, :-2, 1:-1] - luma[:, 2:, 1:-1] - luma[:, 1:-1, :-2] - luma[:, 1:-1, 2:]
    )
    assert np.allclose(found["blur"], laplacian.reshape(5, -1).var(1))


def test_an_even_image_measures_no_blur_and_no_spread() -> None:
    found = dict(zip(MEASURES, measure(np.full((1, 50, 50, 3), 255, np.uint8))[0], strict=True))
    assert (found["blur"], found["std_r"], found["blank"], found["mean_g"]) == (0, 0, 1, 255)


def _saved(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("options", [{}, {"compress_level": 0}, {"transparency": (1, 2, 3)}])
def test_the_short_way_through_a_plain_png_gives_pillows_pixels(options: dict[str, object]) -> None:
    data = png(picture(), **options)
    image = _plain(data, 50, 50)
    assert image is not None
    assert np.array_equal(np.asarray(image), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_the_short_way_is_not_taken_for_other_kinds_of_png() -> None:
    assert _plain(png(picture(), "RGBA"), 50, 50) is None
    assert _plain(png(picture())[:-40], 50, 50) is None


@pytest.mark.real
def test_the_short_way_gives_pillows_pixels_on_real_images(real_data: Path) -> None:
    with zipfile.ZipFile(real_data / "idc_sample.zip") as archive:
        files = [archive.read(name) for name in archive.namelist()[::40]]
    with tarfile.open(real_data / "breakhis_sample.tar.gz") as archive:
        files += [archive.extractfile(info).read() for info in archive][::20]
    for data in files:
        expected = Image.open(io.BytesIO(data))
        found = _plain(data, *expected.size)
        assert found is not None
        assert np.array_equal(np.asarray(found), np.asarray(expected))
