"""Brightness, blankness and blur of stored pixels, many images at a time, in whole numbers: no rounding differs."""

import numpy as np

MEASURES = ("mean_r", "mean_g", "mean_b", "std_r", "std_g", "std_b", "blank", "blur")
"""Columns of `measure`, as the manifest names and defines them."""

BACKGROUND = 220
"""A pixel with all channels above this is bare glass."""

_BATCH_BYTES = 1 << 19
"""Pixels worked on at a time, so that they stay in a core's cache."""


def measure(pixels: np.ndarray) -> np.ndarray:
    """MEASURES of each image of uint8 (n, height, width, 3), as float32 (n, 8). Height and width are at least 3."""
    out = np.empty((len(pixels), len(MEASURES)), np.float32)
    step = max(1, _BATCH_BYTES // max(1, pixels[:1].nbytes))
    for start in range(0, len(pixels), step):
        out[start : start + step] = _measure(pixels[start : start + step])
    return out


def _measure(pixels: np.ndarray) -> np.ndarray:
    n, height, width, _ = pixels.shape
    area = height * width
    # One plane per channel: sums along a contiguous axis are ten times faster than along one of stride three.
    planes = [np.ascontiguousarray(pixels[..., channel]) for channel in range(3)]
    means, stds = [], []
    for plane in planes:
        flat = plane.reshape(n, area)
        mean = flat.sum(1, dtype=np.uint32) / area
        square = np.square(flat, dtype=np.uint16).sum(1, dtype=np.uint64) / area
        means.append(mean)
        stds.append(np.sqrt(np.maximum(square - mean * mean, 0)))
    darkest = np.minimum(np.minimum(planes[0], planes[1]), planes[2]).reshape(n, area)
    blank = np.count_nonzero(darkest > BACKGROUND, axis=1) / area
    return np.stack([*means, *stds, blank, _blur(planes)], axis=1)


def _blur(planes: list[np.ndarray]) -> np.ndarray:
    """Variance of the four-neighbour Laplacian of the luma (BT.601 in 8 bits) inside the border, (n,) float64."""
    red, green, blue = planes
    luma = red.astype(np.uint16)
    luma *= 77
    for plane, weight in ((green, 150), (blue, 29)):
        part = plane.astype(np.uint16)
        part *= weight
        luma += part  # at most 256 * 255: fits 16 bits
    luma += 128
    luma >>= 8
    y = luma.view(np.int16)
    laplacian = 4 * y[:, 1:-1, 1:-1]
    laplacian -= y[:, :-2, 1:-1]
    laplacian -= y[:, 2:, 1:-1]
    laplacian -= y[:, 1:-1, :-2]
    laplacian -= y[:, 1:-1, 2:]
    # Whole numbers below 2**53 in float64: sums are exact in any order.
    values = laplacian.reshape(len(y), -1).astype(np.float64)
    mean = values.mean(axis=1)
    return np.einsum("ij,ij->i", values, values) / values.shape[1] - mean * mean
