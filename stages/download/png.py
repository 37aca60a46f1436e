"""PNG, written quickly: one filter for all rows where Pillow tries five, which costs it more than drawing the image."""

import struct
import zlib

import numpy as np


def png(image: np.ndarray, strategy: int = zlib.Z_RLE) -> bytes:
    """An RGB image, uint8 (height, width, 3), as a PNG file.

    strategy: of zlib; another one gives other bytes for the same pixels. The image's values should come in coarse
    steps: noise in the last bits is what does not compress.
    """
    height, width, _ = image.shape
    rows = image.reshape(height, 3 * width)
    filtered = np.empty((height, 1 + 3 * width), np.uint8)
    filtered[:, 0] = 2  # each row is told as its difference from the row above
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, strategy)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits, RGB
    body = packer.compress(filtered) + packer.flush()
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
