"""The pixel store: `data/pixels/<source>.npy`, uint8 (n, height, width, 3), every decoded image once."""

from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from stages.contracts.errors import StageError


class PixelWriter:
    """Writes an npy file of unknown length block by block.

    Sequential writing keeps memory flat: pages of a writable memory map count as the process's own (2,033 MB against
    48 MB for IDC). numpy pads its header so that the first axis can grow, which lets us write the length last.
    """

    def __init__(self, path: Path, height: int, width: int) -> None:
        self.shape = (height, width, 3)
        self.rows = 0
        self._file: BinaryIO = path.open("wb")
        self._write_header()

    def append(self, block: np.ndarray) -> None:
        """Add `block`, uint8 (k, height, width, 3), as the next k rows."""
        if block.dtype != np.uint8 or block.shape[1:] != self.shape:
            raise ValueError(f"expected uint8 (k, {self.shape}), got {block.dtype} {block.shape}")
        self._file.write(np.ascontiguousarray(block).data)
        self.rows += len(block)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._file.seek(0)
                self._write_header()
        finally:
            self._file.close()

    def _write_header(self) -> None:
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": "|u1", "fortran_order": False, "shape": (self.rows, *self.shape)}
        )


def open_pixels(path: Path) -> np.ndarray:
    """Map a pixel store read-only: uint8 (n, height, width, 3). Raises StageError if it is absent or cut short."""
    try:
        pixels = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise StageError(f"{path} is missing; `dvc repro` makes it") from None
    except (ValueError, OSError, EOFError) as error:
        raise StageError(f"{path} is not a whole pixel store ({error}); delete it and run `dvc repro merge`") from None
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise StageError(f"{path} holds {pixels.dtype} {pixels.shape}, expected uint8 (n, height, width, 3)")
    return pixels
